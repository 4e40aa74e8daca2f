package deployment

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/worker"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type logsOptions struct {
	env     *command.Env
	brokers connect.Brokers
	admin   connect.Admin
	name    string
	follow  bool
	level   string
	since   string
}

// NewLogs makes the command.
func NewLogs(env *command.Env) *cli.Command {
	o := &logsOptions{env: env}
	return command.New(env, command.Spec{
		Name: "logs", Usage: "print what a deployment says", Category: category,
		Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: `Prints what the module logged and printed, and what the server says about the deployment. It is kept in the topic
` + runtime.LogsTopic + `, also after the deployment is deleted.`,
		Examples: `millstream logs spanish --follow
millstream logs spanish --level warn --since 1h`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for more", Destination: &o.follow, DisableDefaultText: true},
			&cli.StringFlag{Name: "level", Usage: "only this `LEVEL` and above: debug, info, warn or error", Value: "debug", Destination: &o.level},
			&cli.StringFlag{Name: "since", Usage: "`TIME` to begin at, RFC 3339 or a duration ago such as 10m", DefaultText: "all", Destination: &o.since},
			o.admin.Flag(),
		}, o.brokers.Flags(env)...),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

func (o *logsOptions) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return command.Usagef("--level %q is unknown", o.level).WithFix("it is debug, info, warn or error")
	}
	from, err := stream.ParsePosition(o.since, time.Now())
	if err != nil || from.Kind == stream.Offset {
		return command.Usagef("--since %q is neither a time nor a duration ago", o.since).WithFix("write for example --since 10m")
	}
	if o.follow {
		// Waiting for the words of something that does not exist would be waiting for ever.
		if err := o.exists(ctx); command.ExitCode(err) == command.CodeNotFound {
			return err
		}
		var cancel context.CancelFunc
		ctx, cancel = o.env.UntilOutClosed(ctx)
		defer cancel()
	}
	client, err := o.brokers.Open(ctx, stream.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(o.env.Out)
	printed := 0
	request := stream.Request{Topic: runtime.LogsTopic, Partition: stream.AllPartitions, From: from, Follow: o.follow, Idle: out.Flush}
	err = stream.Read(ctx, client, request, func(r *kgo.Record) error {
		if string(r.Key) != o.name {
			return nil
		}
		shown, err := o.print(out, r.Value, level)
		if shown {
			printed++
		}
		return err
	})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if errors.Is(context.Cause(ctx), command.ErrOutClosed) {
		return nil
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		err = nil // nobody has said anything yet
	}
	if err != nil {
		return o.brokers.Explain(err, "logs of "+o.name)
	}
	if printed > 0 {
		return nil
	}
	return o.nothing(ctx)
}

// nothing tells a silent deployment from one that does not exist.
func (o *logsOptions) nothing(ctx context.Context) error {
	if err := o.exists(ctx); err != nil {
		return err
	}
	o.env.Notef("%s has said nothing\n", o.name)
	return nil
}

func (o *logsOptions) exists(ctx context.Context) error {
	_, err := act(&o.admin, func(c *connect.AdminClient) (*admin.Status, error) { return c.Get(ctx, o.name) })
	return err
}

// print writes one line if its level is high enough.
func (o *logsOptions) print(out *bufio.Writer, value []byte, least slog.Level) (bool, error) {
	var line worker.LogLine
	if err := json.Unmarshal(value, &line); err != nil {
		return false, fmt.Errorf("a record of topic %s is no log line: %w", runtime.LogsTopic, err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(line.Level)); err != nil {
		level = slog.LevelInfo
	}
	if level < least {
		return false, nil
	}
	if o.env.JSON {
		out.Write(value)
		return true, out.WriteByte('\n')
	}
	where := o.name
	if line.Topic != "" {
		where = fmt.Sprintf("%s[%s:%d]", o.name, line.Topic, line.Partition)
	}
	style := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	_, err := fmt.Fprintf(out, "%s  %s  %s  %s\n", style.Dim(line.Time.Local().Format("2006-01-02T15:04:05.000Z07:00")),
		colouredLevel(style, level, line.Level), style.Dim(where), terminal.Escape([]byte(line.Message)))
	return true, err
}

func colouredLevel(s terminal.Style, level slog.Level, text string) string {
	text = fmt.Sprintf("%-5s", strings.ToUpper(text))
	switch {
	case level >= slog.LevelError:
		return s.Bad(text)
	case level >= slog.LevelWarn:
		return s.Warn(text)
	}
	return text
}
