package txn_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/txn"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a broker in memory with the topic notes of two partitions.
type fixture struct {
	*broker.Broker
	address string
}

func serve(t *testing.T) *fixture {
	t.Helper()
	b, address := brokertest.Serve(t, broker.Options{})
	f := &fixture{Broker: b, address: address}
	if _, err := kadm.NewClient(f.client(t)).CreateTopic(t.Context(), 2, -1, nil, "notes"); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(f.address), kgo.DisableClientMetrics(), kgo.MetadataMinAge(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// begin opens a transaction that has written to both partitions.
func (f *fixture) begin(t *testing.T, id string) *kgo.Client {
	t.Helper()
	c := f.client(t, kgo.TransactionalID(id), kgo.TransactionTimeout(5*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(2) {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "notes", Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// run runs a txn command.
func (f *fixture) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &command.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	err := command.NewApp(env, "", txn.New(env)).Run(t.Context(), append([]string{"txn"}, append(args, "--brokers", f.address)...))
	return out.String(), errs.String(), command.ExitCode(err)
}

// get runs a command with --json and decodes what it prints.
func (f *fixture) get(t *testing.T, into any, args ...string) {
	t.Helper()
	out, errs, code := f.run(t, append(args, "--json")...)
	if code != 0 {
		t.Fatalf("%v: exit %d, %s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%v: %s: %v", args, out, err)
	}
}

type listed struct {
	ID         string `json:"transactional_id"`
	State      string
	Producer   int64 `json:"producer_id"`
	Epoch      int16 `json:"producer_epoch"`
	TimeoutMS  int   `json:"timeout_ms"`
	Partitions any
}

type producer struct {
	Partition int32
	ID        int64  `json:"producer_id"`
	Begin     *int64 `json:"transaction_start_offset"`
}

// stable are the last stable offsets of both partitions.
func (f *fixture) stable(t *testing.T) (offsets [2]int64) {
	t.Helper()
	for i := range offsets {
		p, err := f.Topics().Partition("notes", int32(i))
		if err != nil {
			t.Fatal(err)
		}
		offsets[i] = p.Offsets().LastStable
	}
	return offsets
}

func TestAbortByTransactionalID(t *testing.T) {
	f := serve(t)
	none := []listed{}
	if f.get(t, &none, "list"); len(none) != 0 {
		t.Errorf("at first: %+v", none)
	}
	writer := f.begin(t, "writer")

	var all []listed
	f.get(t, &all, "list", "--state", "ongoing")
	if len(all) != 1 || all[0].ID != "writer" || all[0].State != "Ongoing" || fmt.Sprint(all[0].Partitions) != "2" {
		t.Fatalf("list: %+v", all)
	}
	if f.get(t, &all, "list", "--open-for", "1h"); len(all) != 0 {
		t.Errorf("open for an hour: %+v", all)
	}
	if f.get(t, &all, "list", "--state", "Empty"); len(all) != 0 {
		t.Errorf("empty: %+v", all)
	}
	var d listed
	f.get(t, &d, "describe", "writer")
	if d.State != "Ongoing" || d.TimeoutMS != 300_000 || fmt.Sprint(d.Partitions) != "[map[partition:0 topic:notes] map[partition:1 topic:notes]]" {
		t.Errorf("describe: %+v", d)
	}
	out, _, _ := f.run(t, "describe", "writer")
	if !strings.Contains(out, `"writer" is Ongoing`) || !strings.Contains(out, "timeout 5m0s, open for ") {
		t.Errorf("described as\n%s", out)
	}
	var producers []producer
	f.get(t, &producers, "producers", "notes", "--open")
	if len(producers) != 2 || producers[0].ID != d.Producer || producers[0].Begin == nil || *producers[0].Begin != 0 {
		t.Errorf("producers: %+v", producers)
	}

	// A marker in one partition only would tear the transaction.
	_, errs, code := f.run(t, "abort", "--partition", "notes:0", "--producer-id", fmt.Sprint(d.Producer))
	if code != command.CodeConflict || !strings.Contains(errs, "millstream txn abort writer") {
		t.Errorf("abort in one partition: exit %d, %s", code, errs)
	}
	if got := f.stable(t); got != [2]int64{0, 0} {
		t.Errorf("last stable offsets %v before the abort", got)
	}
	if _, errs, code := f.run(t, "abort", "writer"); code != 0 {
		t.Fatalf("abort: exit %d, %s", code, errs)
	}
	if got := f.stable(t); got != [2]int64{2, 2} {
		t.Errorf("last stable offsets %v after the abort, want those behind the markers", got)
	}
	if err := writer.EndTransaction(t.Context(), kgo.TryCommit); err == nil {
		t.Error("the aborted transaction can still be committed")
	}
	f.get(t, &d, "describe", "writer")
	if d.State == "Ongoing" || d.TimeoutMS != 300_000 {
		t.Errorf("after the abort: %+v", d)
	}
	if f.get(t, &producers, "producers", "notes:0", "--open"); len(producers) != 0 {
		t.Errorf("producers with an open transaction after the abort: %+v", producers)
	}
	if _, errs, code := f.run(t, "abort", "writer"); code != command.CodeConflict || !strings.Contains(errs, "has no open transaction") {
		t.Errorf("a second abort: exit %d, %s", code, errs)
	}
}

func TestAbortOfAHangingTransaction(t *testing.T) {
	f := serve(t)
	p, err := f.Topics().Partition("notes", 1)
	if err != nil {
		t.Fatal(err)
	}
	// As after an AddPartitionsToTxn that was lost: the partition has records of a transaction, the coordinator knows of none.
	var b record.Builder
	b.Reset(nil, record.None)
	b.Append(time.Now().UnixMilli(), nil, []byte("x"), nil, 0)
	b.SetProducer(4711, 3, 0, true)
	if _, err := p.Append(t.Context(), b.Finish(), topic.FromTransaction); err != nil {
		t.Fatal(err)
	}
	out, _, _ := f.run(t, "producers", "notes:1", "--open")
	if !strings.Contains(out, "notes  1          4711         3      0") {
		t.Errorf("producers:\n%s", out)
	}
	if _, errs, code := f.run(t, "abort", "--partition", "notes:0", "--producer-id", "4711"); code != command.CodeNotFound {
		t.Errorf("in the wrong partition: exit %d, %s", code, errs)
	}
	out, errs, code := f.run(t, "abort", "--partition", "notes:1", "--producer-id", "4711")
	if code != 0 || out != "aborted the transaction of producer 4711 in notes:1\n" {
		t.Fatalf("exit %d, %s%s", code, out, errs)
	}
	if got := f.stable(t); got != [2]int64{0, 2} {
		t.Errorf("last stable offsets %v", got)
	}
}

func TestMistakes(t *testing.T) {
	f := serve(t)
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"describe", "nosuch"}, command.CodeNotFound, "millstream txn list"},
		{[]string{"abort", "nosuch"}, command.CodeNotFound, "millstream txn list"},
		{[]string{"abort"}, command.CodeUsage, "--partition together with --producer-id"},
		{[]string{"abort", "x", "--producer-id", "1"}, command.CodeUsage, "abort takes"},
		{[]string{"abort", "--producer-id", "1"}, command.CodeUsage, "abort takes"},
		{[]string{"abort", "--partition", "notes", "--producer-id", "1"}, command.CodeUsage, "TOPIC:PARTITION"},
		{[]string{"list", "--state", "open"}, command.CodeUsage, "Ongoing"},
		{[]string{"list", "--open-for", "-1s"}, command.CodeUsage, "negative"},
		{[]string{"producers", "nosuch"}, command.CodeNotFound, "millstream topic list"},
		{[]string{"producers", "notes:9"}, command.CodeNotFound, "notes"},
		{[]string{"producers", "notes:x"}, command.CodeUsage, "TOPIC:PARTITION"},
	} {
		out, errs, code := f.run(t, tc.args...)
		if code != tc.code || out != "" || !strings.Contains(errs, tc.want) {
			t.Errorf("%v: exit %d, want %d; %q in %q", tc.args, code, tc.code, tc.want, errs)
		}
	}
}
