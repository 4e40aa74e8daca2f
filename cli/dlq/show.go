package dlq

import (
	"context"
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/records"
	"github.com/millstream-io/millstream/cli/stream"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

type showOptions struct {
	env *command.Env
	target
}

func newShow(env *command.Env) *cli.Command {
	o := &showOptions{env: env}
	return command.New(env, command.Spec{
		Name: "show", Usage: "show one failed record with everything that is known", Args: "NAME LETTER", MinArgs: 2, MaxArgs: 2,
		Description: "LETTER is PARTITION:OFFSET in the topic NAME.dlq, the first column of dlq list.",
		Examples: `millstream dlq show spanish 0:17
millstream dlq show spanish 0:17 --json | jq .record.value`,
		Flags:    o.brokers.Flags(env),
		Complete: names(env),
		Run: func(ctx context.Context, args []string) error {
			o.deployment = args[0]
			return o.run(ctx, args[1])
		},
	})
}

func (o *showOptions) run(ctx context.Context, at string) error {
	partition, offset, err := parsePlace(at)
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
	r, err := readOne(ctx, client, o.topic(), partition, offset)
	if err != nil {
		return o.explain(err)
	}
	l := newLetter(r, done)
	if o.env.JSON {
		return o.env.PrintJSON(struct {
			document
			Record any `json:"record"`
		}{l.document(), records.Document(r)})
	}
	o.print(l)
	return nil
}

func (o *showOptions) print(l *letter) {
	text := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return string(b)
	}
	line := func(name, format string, args ...any) {
		o.env.Printf("%-12s %s\n", name, terminal.Escape(fmt.Appendf(nil, format, args...)))
	}
	line("letter", "%s", l.address())
	line("time", "%s", l.when())
	if l.strange != nil {
		line("reason", "%v", l.strange)
	} else {
		line("kind", "%s", l.Kind)
		line("reason", "%s", text([]byte(l.Reason)))
		line("deployment", "%s", l.Deployment)
		line("module", "%s", l.Module)
		line("source", "topic %s, partition %d, offset %d", l.From.Topic, l.From.Partition, l.Letter.Offset)
	}
	line("retried", "%t", l.retried)
	for _, h := range l.record.Headers {
		if !strings.HasPrefix(h.Key, "millstream.error.") && !strings.HasPrefix(h.Key, "millstream.source.") {
			line("header", "%s=%s", text([]byte(h.Key)), text(h.Value))
		}
	}
	if l.strange == nil && l.KeyCut {
		line("key", "left out: it is over the limit of this topic; it is in the source")
	} else {
		line("key", "%s", text(l.record.Key))
	}
	if l.strange == nil && l.CutBytes >= 0 {
		line("value", "left out: its %s are over the limit of this topic; they are in the source", terminal.Size(int64(l.CutBytes)))
	} else {
		line("value", "%s", text(l.record.Value))
	}
	if l.strange != nil {
		return
	}
	o.env.Printf("\nthe record in its source   millstream consume %s --partition %d --from %d --count 1 --json\n", l.From.Topic, l.From.Partition, l.Letter.Offset)
	o.env.Printf("what the module said       millstream logs %s\n", l.Deployment)
	if !l.retried {
		o.env.Printf("send it once more          millstream dlq retry %s --partition %d --offset %d\n", o.deployment, l.record.Partition, l.record.Offset)
	}
}
