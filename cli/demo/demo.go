// Package demo holds the demo command: the main job from end to end, on real
// text, in a temporary server that leaves nothing behind.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/plugin"
	"github.com/millstream-io/millstream/cli/server"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

const (
	input      = "notes"
	output     = "notes.es"
	deployment = "spanish"
	// patience is how long the demo waits for the last translation before it says that something is wrong.
	patience = 60 * time.Second
)

// notes are what a teacher writes on a board in the course of a day.
func notes() []string {
	return []string{
		"Good morning! How are you?",
		"Today is Monday and the weather is very good.",
		"Please open your books, we read a story.",
		"Where is the library?",
		"The black cat sleeps in the house of my friend.",
		"My sister has two dogs and a white horse.",
		"I would like a cup of coffee, please.",
		"The red apple is for the teacher.",
		"The children play in the garden after school.",
		"We need water, bread and a little time.",
		"I have a question.",
		"Thank you very much, see you tomorrow!",
	}
}

type demoOptions struct {
	env     *command.Env
	version string
}

// New makes the command.
func New(env *command.Env, version string) *cli.Command {
	o := &demoOptions{env: env, version: version}
	return command.New(env, command.Spec{
		Name: "demo", Usage: "see it work: a server, a deployed translator, English in, Spanish out", Category: "Run it",
		Description: "Everything runs in a temporary directory on free ports and is gone afterwards.",
		Examples:    `millstream demo`,
		Run:         func(ctx context.Context, _ []string) error { return o.run(ctx) },
	})
}

// pair is a record before and after.
type pair struct {
	English string `json:"english"`
	Spanish string `json:"spanish"`
}

func (o *demoOptions) run(ctx context.Context) (err error) {
	wasm, err := plugin.OpenReady("translate")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "millstream-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	started := time.Now()
	p, err := server.Start(ctx, server.Options{
		DataDir: filepath.Join(dir, "data"), Listen: "127.0.0.1:0", Admin: "127.0.0.1:0",
		DefaultPartitions: 1, Logger: slog.New(slog.DiscardHandler), Version: o.version,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	o.step("millstream server", fmt.Sprintf("a broker on %s, ready in %s", p.Brokers, terminal.Duration(time.Since(started))))

	started = time.Now()
	if err := o.deploy(ctx, p, wasm); err != nil {
		return err
	}
	o.step("millstream deploy plugin:translate --name spanish --from notes --to notes.es --config to=es --create-topics",
		fmt.Sprintf("%s of WebAssembly uploaded, checked, compiled and running in %s", terminal.Size(int64(len(wasm))), terminal.Duration(time.Since(started))))

	pairs, took, err := o.translate(ctx, p)
	if err != nil {
		return err
	}
	return o.show(pairs, took)
}

func (o *demoOptions) step(line, what string) {
	if o.env.JSON {
		return
	}
	s := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	o.env.Printf("%s %s\n  %s\n", s.Dim("$"), s.Bold(line), what)
}

func (o *demoOptions) deploy(ctx context.Context, p *server.Process, wasm []byte) error {
	a := &connect.Admin{URL: p.AdminURL}
	client, err := a.Open()
	if err != nil {
		return err
	}
	defer client.Close()
	progress := terminal.NewProgress(o.env.Err, o.env.ErrTerminal && !o.env.JSON, "compiling the module")
	defer progress.Done()
	info, err := client.UploadModule(ctx, bytes.NewReader(wasm), int64(len(wasm)))
	if err != nil {
		return client.Explain(err)
	}
	_, err = client.Deploy(ctx, admin.DeployRequest{
		Spec: deploy.Spec{
			Name: deployment, Module: info.Digest, Inputs: []string{input}, Outputs: []deploy.Output{{Topic: output}},
			Config: map[string]string{"to": "es"}, OnError: deploy.OnErrorDeadLetter, Start: "earliest",
		},
		CreateTopics: true,
	})
	return client.Explain(err)
}

// translate writes the notes, and reads what the deployment makes of them.
func (o *demoOptions) translate(ctx context.Context, p *server.Process) ([]pair, time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no translation within %s", patience))
	defer cancel()
	b := &connect.Brokers{Addresses: p.Brokers}
	client, err := b.Open(ctx, append(stream.Options(), kgo.DefaultProduceTopic(input), kgo.ProducerLinger(0))...)
	if err != nil {
		return nil, 0, err
	}
	defer client.Close()
	english := notes()
	started := time.Now()
	var records []*kgo.Record
	for _, line := range english {
		records = append(records, &kgo.Record{Value: []byte(line)})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, 0, b.Explain(err, "topic "+input)
	}
	o.step("millstream produce notes < notes.txt", fmt.Sprintf("%d lines acknowledged, on disk, in %s", len(english), terminal.Duration(time.Since(started))))
	var pairs []pair
	request := stream.Request{Topic: output, Partition: stream.AllPartitions, Follow: true}
	err = stream.Read(ctx, client, request, func(r *kgo.Record) error {
		pairs = append(pairs, pair{English: english[len(pairs)], Spanish: string(r.Value)})
		if len(pairs) == len(english) {
			return stream.ErrStop
		}
		return nil
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return pairs, time.Since(started), b.Explain(err, "topic "+output)
}

func (o *demoOptions) show(pairs []pair, took time.Duration) error {
	if o.env.JSON {
		return o.env.PrintJSON(pairs)
	}
	s := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	o.step("millstream consume notes.es", fmt.Sprintf("all of them translated %s after the first was written\n", terminal.Duration(took)))
	t := terminal.NewTable(o.env.Out, "notes", "notes.es")
	for _, p := range pairs {
		t.Row(p.English, p.Spanish)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	o.env.Printf(`
Each line was a record of the topic %q. The deployment %q, a consumer group, took it through a WebAssembly module, in a sandbox
with limits of memory, work and time, and wrote the result to %q. Any Kafka client sees the same topics. (The translator
knows words and phrases from a phrasebook; it is no neural model.)

%s
  millstream server                       your own server; then the commands above, in another terminal
  millstream plugin list                  what else is ready-made
  millstream init shout                   your own function, with tests
`, input, deployment, output, s.Bold("Go on:"))
	return nil
}
