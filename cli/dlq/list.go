package dlq

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

type listOptions struct {
	env *command.Env
	target
	last   int
	since  string
	reason string
	all    bool
}

func newList(env *command.Env) *cli.Command {
	o := &listOptions{env: env}
	return command.New(env, command.Spec{
		Name: "list", Usage: "list records that failed", Args: "NAME", MinArgs: 1, MaxArgs: 1,
		Description: `Shows the newest dead letters of a deployment that were not retried: where each lies in the topic NAME.dlq, the event time of
the record, where it came from, and why it failed. It needs the brokers only, and the deployment may be gone.`,
		Examples: `millstream dlq list spanish
millstream dlq list spanish --since 1h --reason 'no such word'
millstream dlq list spanish --last 1000 --all --json | jq -r .reason | sort | uniq -c`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "last", Usage: "look at the newest `NUMBER` letters", Value: 100, Destination: &o.last},
			&cli.StringFlag{Name: "since", Usage: "look at all letters of records since this `TIME`: RFC 3339, or a duration ago such as 10m", Destination: &o.since},
			&cli.StringFlag{Name: "reason", Usage: "only letters whose kind or reason has this `TEXT` in it", Destination: &o.reason},
			&cli.BoolFlag{Name: "all", Usage: "also those that were retried", Destination: &o.all, DisableDefaultText: true},
		}, o.brokers.Flags(env)...),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.deployment = args[0]
			return o.run(ctx)
		},
	})
}

func (o *listOptions) request() (stream.Request, error) {
	r := stream.Request{Topic: o.topic(), Partition: stream.AllPartitions, Last: o.last}
	if o.last < 1 || o.last > stream.MaxLast {
		return r, command.Usagef("--last %d is not from 1 to %d", o.last, stream.MaxLast)
	}
	if o.since == "" {
		return r, nil
	}
	from, err := stream.ParsePosition(o.since, time.Now())
	if err != nil || from.Kind == stream.Offset {
		return r, command.Usagef("--since %q is neither a time nor a duration ago", o.since).WithFix("write for example --since 10m")
	}
	r.Last, r.From = 0, from
	return r, nil
}

func (o *listOptions) run(ctx context.Context) error {
	request, err := o.request()
	if err != nil {
		return err
	}
	client, err := o.brokers.Open(ctx, stream.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	done, err := readMarks(ctx, kadm.NewClient(client), o.topic(), o.topic())
	if err != nil {
		return o.explain(err)
	}
	t := terminal.NewTable(o.env.Out, "letter", "time", "source", "kind", "reason")
	shown, retried := 0, 0
	err = stream.Read(ctx, client, request, func(r *kgo.Record) error {
		l := newLetter(r, done)
		if !l.matches(o.reason) {
			return nil
		}
		if l.retried && !o.all {
			retried++
			return nil
		}
		shown++
		if o.env.JSON {
			return o.env.PrintJSON(l.document())
		}
		t.Row(l.row()...)
		return nil
	})
	if err != nil {
		return o.explain(err)
	}
	if o.env.JSON {
		return nil
	}
	if shown > 0 {
		if err := t.Flush(); err != nil {
			return err
		}
		o.env.Notef("one of them: millstream dlq show %s LETTER; all once more: millstream dlq retry %s\n", o.deployment, o.deployment)
		return nil
	}
	switch {
	case retried > 0:
		o.env.Notef("all %s of them were retried; --all shows them\n", terminal.Count(int64(retried), "letter"))
	default:
		o.env.Notef("no dead letters\n")
	}
	return nil
}

// matches tells whether text is in the kind or the reason.
func (l *letter) matches(text string) bool {
	if text == "" {
		return true
	}
	return l.strange == nil && (strings.Contains(l.Reason, text) || strings.Contains(l.Kind, text))
}

// maxReasonWidth keeps a letter on a line.
const maxReasonWidth = 100

// when is the event time of the record, where the reader is.
func (l *letter) when() string {
	return l.record.Timestamp.Local().Format("2006-01-02T15:04:05.000Z07:00")
}

func (l *letter) row() []any {
	at := fmt.Sprintf("%d:%d", l.record.Partition, l.record.Offset)
	when := l.when()
	if l.strange != nil {
		return []any{at, when, "-", "-", l.strange.Error()}
	}
	reason := []rune(string(terminal.Escape([]byte(brief(l.Reason)))))
	if len(reason) > maxReasonWidth {
		reason = append(reason[:maxReasonWidth-1], '…')
	}
	if l.retried {
		reason = append([]rune("(retried) "), reason...)
	}
	return []any{at, when, fmt.Sprintf("%s/%d@%d", l.From.Topic, l.From.Partition, l.Letter.Offset), l.Kind, string(reason)}
}

// brief is what tells one failure from another: of a guest that was stopped that is what it said last, not where it
// stood, and the kind has a column of its own. dlq show has all of it.
func brief(reason string) string {
	if _, said, ok := strings.Cut(reason, "; last output: "); ok {
		return said
	}
	if rest, ok := strings.CutPrefix(reason, "guest stopped ("); ok {
		if _, why, ok := strings.Cut(rest, "): "); ok {
			return why
		}
	}
	return reason
}
