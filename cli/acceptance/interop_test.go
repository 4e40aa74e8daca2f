package acceptance

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	installKcat   = "apt-get install kcat"
	installPython = "apt-get install python3-kafka python3-confluent-kafka"
	installNode   = "npm install kafkajs, and its folder in MILLSTREAM_KAFKAJS"
)

// TestInteropKcat: librdkafka of Debian, all codecs, groups.
func TestInteropKcat(t *testing.T) {
	kcat := need(t, "kcat", installKcat)
	s := start(t, t.TempDir(), "--default-partitions", "2")
	var lines strings.Builder
	const count = 2000
	for i := range count {
		fmt.Fprintf(&lines, "%06d\n", i)
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			topic := "z-" + codec
			cmd := exec.Command(kcat, "-P", "-b", s.Brokers, "-t", topic, "-z", codec, "-d", "msg", "-X", "topic.partitioner=random")
			cmd.Stdin = strings.NewReader(lines.String())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if strings.Contains(string(out), "does not support") {
				t.Errorf("the client gave a feature up:\n%s", out)
			}
			got := s.run(t, "", kcat, "-C", "-b", s.Brokers, "-t", topic, "-o", "beginning", "-e", "-q")
			checkLines(t, got, lines.String())
		})
	}
	t.Run("offsets by time", func(t *testing.T) {
		if out := s.run(t, "", kcat, "-Q", "-b", s.Brokers, "-t", "z-none:0:-1"); !strings.Contains(out, "offset") {
			t.Errorf("kcat -Q: %s", out)
		}
	})
	t.Run("group", func(t *testing.T) {
		read := func() int {
			return strings.Count(s.run(t, "", kcat, "-b", s.Brokers, "-X", "auto.offset.reset=earliest", "-e", "-q", "-G", "g1", "z-none"), "\n")
		}
		if n := read(); n != count {
			t.Errorf("first read of the group: %d records, want %d", n, count)
		}
		if n := read(); n != 0 {
			t.Errorf("second read of the group: %d records, want 0: offsets were not committed", n)
		}
	})
	t.Run("our consumer agrees", func(t *testing.T) {
		checkLines(t, s.millstream(t, "", "consume", "z-zstd", "--from", "start", "--count", fmt.Sprint(count)), lines.String())
	})
}

// checkLines compares two texts as sets of lines.
func checkLines(t *testing.T, got, want string) {
	t.Helper()
	seen := map[string]int{}
	for line := range strings.Lines(want) {
		seen[line]++
	}
	for line := range strings.Lines(got) {
		seen[line]--
	}
	for line, n := range seen {
		if n != 0 {
			t.Fatalf("line %q is there %d times too few", strings.TrimSpace(line), n)
		}
	}
}

func python(t *testing.T, module string) string {
	t.Helper()
	// Debian's own interpreter has Debian's packages.
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(p, "-c", "import "+module).Run() == nil {
			return p
		}
	}
	lack(t, "python3 with "+module, installPython)
	return ""
}

// TestInteropKafkaPython: the snippet of every tutorial, then a longer program.
func TestInteropKafkaPython(t *testing.T) {
	py := python(t, "kafka")
	s := start(t, t.TempDir())
	s.run(t, "", py, "testdata/classic.py", s.Brokers)
	if got := s.millstream(t, "", "consume", "topic", "--from", "start", "--count", "1"); got != "hello\n" {
		t.Errorf("consumed %q, want hello", got)
	}
	t.Log(s.run(t, "", py, "testdata/kafka_python.py", s.Brokers))
}

// TestInteropConfluent: librdkafka through Python, all codecs, a group.
func TestInteropConfluent(t *testing.T) {
	py := python(t, "confluent_kafka")
	s := start(t, t.TempDir())
	t.Log(s.run(t, "", py, "testdata/confluent.py", s.Brokers))
}

// TestInteropKafkaJS: the client of Node.js.
func TestInteropKafkaJS(t *testing.T) {
	node := need(t, "node", installNode)
	if dir := os.Getenv("MILLSTREAM_KAFKAJS"); dir == "" || exec.Command(node, "-e", "require(process.env.MILLSTREAM_KAFKAJS)").Run() != nil {
		lack(t, "kafkajs", installNode)
	}
	s := start(t, t.TempDir())
	t.Log(s.run(t, "", node, "testdata/kafkajs.js", s.Brokers))
}
