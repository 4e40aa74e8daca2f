package broker_test

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/broker"
)

// kcat runs kcat (librdkafka) with input and returns what it wrote.
func kcat(t *testing.T, ctx context.Context, input string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "kcat", args...)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

func needKcat(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Skip("SKIPPED: kcat is not installed (apt-get install kcat)")
	}
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d\n", i+1)
	}
	return b.String()
}

// sorted makes records of several partitions comparable.
func sorted(text string) []string {
	out := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(out)
	return out
}

// The oldest librdkafka in use compresses only for a broker that lists old
// versions of Produce, and tells so on stderr if it does not.
func TestKcatCodecs(t *testing.T) {
	needKcat(t)
	r := start(t, broker.Options{DefaultPartitions: 4})
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			ctx := within(t)
			name := "z-" + codec
			_, said := kcat(t, ctx, lines(2000), "-P", "-b", r.address, "-t", name, "-z", codec, "-d", "msg")
			if strings.Contains(said, "does not support") {
				t.Errorf("the client found something missing:\n%s", said)
			}
			got, _ := kcat(t, ctx, "", "-C", "-b", r.address, "-t", name, "-o", "beginning", "-e", "-q")
			if !slices.Equal(sorted(got), sorted(lines(2000))) {
				t.Errorf("%d lines came back, not the 2000 sent", len(sorted(got)))
			}
			if codec == "none" {
				return
			}
			stored := int64(0)
			for i := range int32(4) {
				p, err := r.Topics().Partition(name, i)
				if err != nil {
					t.Fatal(err)
				}
				b, err := p.Read(nil, readAll)
				if err != nil {
					t.Fatal(err)
				}
				stored += codecOf(b, codec)
			}
			if stored == 0 {
				t.Errorf("no batch is stored with codec %s", codec)
			}
		})
	}
}

func TestKcatQueries(t *testing.T) {
	needKcat(t)
	r := start(t, broker.Options{})
	ctx := within(t)
	kcat(t, ctx, lines(100), "-P", "-b", r.address, "-t", "notes", "-X", "enable.idempotence=true", "-X", "acks=all")
	if out, _ := kcat(t, ctx, "", "-L", "-b", r.address); !strings.Contains(out, `topic "notes" with 1 partitions`) {
		t.Errorf("list:\n%s", out)
	}
	if out, _ := kcat(t, ctx, "", "-Q", "-b", r.address, "-t", "notes:0:-1"); !strings.Contains(out, "notes [0] offset 100") {
		t.Errorf("query:\n%s", out)
	}
	if out, _ := kcat(t, ctx, "", "-b", r.address, "-X", "auto.offset.reset=earliest", "-e", "-q", "-G", "g1", "notes"); len(sorted(out)) != 100 {
		t.Errorf("a group read %d lines, want 100", len(sorted(out)))
	}
}
