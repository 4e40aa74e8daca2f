package kafka

import (
	"flag"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write SUPPORTED.md")

func TestSupportedIsUpToDate(t *testing.T) {
	want := supportedTable()
	if *update {
		if err := os.WriteFile("SUPPORTED.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("SUPPORTED.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("SUPPORTED.md differs from the table in apis.go: run go test ./broker/kafka -run Supported -update")
	}
}

func TestTableIsSound(t *testing.T) {
	seen := map[int16]bool{}
	for _, a := range apis() {
		req := kmsg.RequestForKey(a.key)
		switch {
		case req == nil:
			t.Errorf("%s: kmsg does not know key %d", a.name, a.key)
			continue
		case seen[a.key]:
			t.Errorf("key %d is in the table twice", a.key)
		case a.handle == nil:
			t.Errorf("%s has no handler", a.name)
		case a.min > a.max, a.advertisedMin > a.min:
			t.Errorf("%s: versions %d to %d, listed from %d", a.name, a.min, a.max, a.advertisedMin)
		case a.max > req.MaxVersion():
			t.Errorf("%s: version %d is above what kmsg decodes (%d)", a.name, a.max, req.MaxVersion())
		}
		if name := kafkaName(a.key); normal(name) != normal(a.name) {
			t.Errorf("key %d is %s, not %s", a.key, name, a.name)
		}
		seen[a.key] = true
	}
}

// kafkaName is Kafka's name of a request, which kmsg has but for one.
func kafkaName(key int16) string {
	if name := kmsg.NameForKey(key); name != "AlterPartitionAssignments" {
		return name
	}
	return "AlterPartitionReassignments"
}

// normal takes away what kmsg and Kafka spell differently.
func normal(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return string(out)
}
