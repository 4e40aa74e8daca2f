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
	last    int

	least slog.Level
	from  stream.Position
}

// NewLogs makes the command.
func NewLogs(env *command.Env) *cli.Command {
	o := &logsOptions{env: env}
	return command.New(env, command.Spec{
		Name: "logs", Usage: "print what a deployment says", Category: category,
		Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: `Prints what the module logged and printed, and what the server says about the deployment. It is kept in the topic
` + runtime.LogsTopic + `, also after the deployment is deleted.`,
		Examples: `millstream logs spanish --last 20 --follow
millstream logs spanish --level warn --since 1h`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for more", Destination: &o.follow, DisableDefaultText: true},
			&cli.StringFlag{Name: "level", Usage: "only this `LEVEL` and above: debug, info, warn or error", Value: "debug", Destination: &o.level},
			&cli.StringFlag{Name: "since", Usage: "`TIME` to begin at, RFC 3339 or a duration ago such as 10m", DefaultText: "all", Destination: &o.since},
			&cli.IntFlag{Name: "last", Usage: "the newest `NUMBER` lines", DefaultText: "all", Destination: &o.last},
			o.admin.Flag(),
		}, o.brokers.Flags(env)...),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.name = args[0]
			return o.run(ctx)
		},
	})
}

// check reads what the flags say.
func (o *logsOptions) check() error {
	if err := o.least.UnmarshalText([]byte(o.level)); err != nil {
		return command.Usagef("--level %q is unknown", o.level).WithFix("it is debug, info, warn or error")
	}
	if o.last < 0 || o.last > stream.MaxLast {
		return command.Usagef("--last %d is not from 1 to %d", o.last, stream.MaxLast)
	}
	var err error
	if o.from, err = stream.ParsePosition(o.since, time.Now()); err != nil || o.from.Kind == stream.Offset {
		return command.Usagef("--since %q is neither a time nor a duration ago", o.since).WithFix("write for example --since 10m")
	}
	return nil
}

func (o *logsOptions) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
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
	request := stream.Request{
		Topic: runtime.LogsTopic, Partition: stream.AllPartitions, From: o.from, Last: o.last, Match: o.wanted, Follow: o.follow, Idle: out.Flush,
	}
	err = stream.Read(ctx, client, request, func(r *kgo.Record) error {
		if !o.wanted(r) {
			return nil
		}
		printed++
		return o.print(out, r.Value)
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

// wanted tells whether a record is a line that the flags ask for.
func (o *logsOptions) wanted(r *kgo.Record) bool {
	if string(r.Key) != o.name || (o.from.Kind == stream.Time && r.Timestamp.Before(o.from.Time)) {
		return false
	}
	_, level, err := parseLine(r.Value)
	return err != nil || level >= o.least // what is no line is told when it is to be printed
}

func parseLine(value []byte) (*worker.LogLine, slog.Level, error) {
	line := &worker.LogLine{}
	if err := json.Unmarshal(value, line); err != nil {
		return nil, 0, fmt.Errorf("a record of topic %s is no log line: %w", runtime.LogsTopic, err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(line.Level)); err != nil {
		level = slog.LevelInfo
	}
	return line, level, nil
}

// print writes one line.
func (o *logsOptions) print(out *bufio.Writer, value []byte) error {
	line, level, err := parseLine(value)
	if err != nil {
		return err
	}
	if o.env.JSON {
		out.Write(value)
		return out.WriteByte('\n')
	}
	where := o.name
	if line.Topic != "" {
		where = fmt.Sprintf("%s[%s:%d]", o.name, line.Topic, line.Partition)
	}
	style := terminal.NewStyle(o.env.OutTerminal, o.env.Getenv)
	_, err = fmt.Fprintf(out, "%s  %s  %s  %s\n", style.Dim(line.Time.Local().Format("2006-01-02T15:04:05.000Z07:00")),
		colouredLevel(style, level, line.Level), style.Dim(where), terminal.Escape([]byte(line.Message)))
	return err
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
