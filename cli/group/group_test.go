package group_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/group"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a broker in memory and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	_, address := brokertest.Serve(t, broker.Options{})
	return address
}

// run runs a command of the group.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &command.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	err := command.NewApp(env, "", group.New(env)).Run(t.Context(), append([]string{"group"}, args...))
	return out.String(), errs.String(), command.ExitCode(err)
}

// A group with members is described with what each of them reads, and is not changed under their feet.
func TestGroupWithMembers(t *testing.T) {
	for _, protocol := range []string{"classic", "consumer"} {
		t.Run(protocol, func(t *testing.T) {
			address := serve(t)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			options := []kgo.Opt{
				kgo.SeedBrokers(address), kgo.ClientID("reader"), kgo.DisableClientMetrics(), kgo.MetadataMinAge(50 * time.Millisecond),
				kgo.ConsumerGroup("reports"), kgo.ConsumeTopics("notes"), kgo.DisableAutoCommit(), kgo.InstanceID("one"),
				kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
			}
			if protocol == "consumer" {
				options = append(options, kgo.ServerSideBalancer())
			}
			client, err := kgo.NewClient(options...)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := kadm.NewClient(client).CreateTopic(ctx, 2, -1, nil, "notes"); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := client.ProduceSync(ctx, &kgo.Record{Topic: "notes", Value: []byte("x")}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			fetches := client.PollRecords(ctx, 1)
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			if err := client.CommitRecords(ctx, fetches.Records()...); err != nil {
				t.Fatal(err)
			}
			checkDescribed(t, address, protocol)
			for _, args := range [][]string{
				{"reset", "reports", "--to", "start"}, {"delete", "reports"}, {"delete-offsets", "reports", "--topic", "notes"},
			} {
				_, errs, code := run(t, append(args, "--brokers", address)...)
				if code != command.CodeConflict || !strings.Contains(errs, "millstream pause") {
					t.Errorf("%v: exit %d, %s", args, code, errs)
				}
			}
			out, errs, code := run(t, "list", "--json", "--brokers", address)
			if want := fmt.Sprintf(`[{"group":"reports","type":%q,"state":"Stable","members":1,"lag_records":2}]`, protocol); strings.TrimSpace(out) != want {
				t.Errorf("list: exit %d, %s%s, want %s", code, out, errs, want)
			}
		})
	}
}

func checkDescribed(t *testing.T, address, protocol string) {
	t.Helper()
	out, errs, code := run(t, "describe", "reports", "--json", "--brokers", address)
	if code != 0 {
		t.Fatalf("exit %d, %s", code, errs)
	}
	var d struct {
		Type, State string
		Lag         int64 `json:"lag_records"`
		Members     []struct {
			ID         string `json:"member_id"`
			Instance   string `json:"instance_id"`
			Client     string `json:"client_id"`
			Topics     []string
			Assignment []struct {
				Topic      string
				Partitions []int32
			}
		}
		Partitions []struct {
			Committed int64  `json:"committed_offset"`
			Member    string `json:"member_id"`
		}
	}
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if d.Type != protocol || d.State != "Stable" || d.Lag != 2 || len(d.Members) != 1 || len(d.Partitions) != 2 {
		t.Fatalf("described as %s", out)
	}
	m := d.Members[0]
	if m.Instance != "one" || m.Client != "reader" || fmt.Sprint(m.Topics) != "[notes]" || fmt.Sprint(m.Assignment) != "[{notes [0 1]}]" {
		t.Errorf("member %+v", m)
	}
	for _, p := range d.Partitions {
		if p.Member != m.ID {
			t.Errorf("partition %+v, member %s", p, m.ID)
		}
	}
	out, _, _ = run(t, "describe", "reports", "--brokers", address)
	for _, want := range []string{`group "reports" is Stable, 1 member, lag 2`, "notes 0 1", "reader", "type " + protocol} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
