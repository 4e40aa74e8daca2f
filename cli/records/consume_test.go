package records_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/records"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What an open transaction keeps back is not shown, and not kept secret.
func TestConsumeBesideAnOpenTransaction(t *testing.T) {
	address := serve(t, vfs.NewMem())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.TransactionalID("writer"), kgo.DefaultProduceTopic("notes"), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(ctx, 1, -1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(ctx, kgo.StringRecord("one"), kgo.StringRecord("two")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	consume := func(args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		env := &command.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
		if err := command.NewApp(env, "", records.NewConsume(env)).Run(ctx, append([]string{"consume", "notes", "--brokers", address}, args...)); err != nil {
			t.Fatal(err)
		}
		return out.String(), errs.String()
	}
	if out, errs := consume(); out != "" || !strings.Contains(errs, "2 offsets more behind an open transaction: millstream txn producers notes --open") {
		t.Errorf("open: %q, %q", out, errs)
	}
	if out, errs := consume("--isolation", "read_uncommitted"); out != "one\ntwo\n" || errs != "" {
		t.Errorf("read_uncommitted: %q, %q", out, errs)
	}
	if err := c.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if out, errs := consume(); out != "one\ntwo\n" || errs != "" {
		t.Errorf("committed: %q, %q", out, errs)
	}
}
