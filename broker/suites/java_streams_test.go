package suites

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// running is what Kafka's own programs, and ours, print when tasks are assigned.
var running = regexp.MustCompile(`(?i)REBALANCING -> RUNNING`)

// properties writes the configuration of one instance of Kafka Streams.
func properties(t *testing.T, j *jvm, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "streams.properties")
	lines := append([]string{"bootstrap.servers=" + j.server.brokers, "state.dir=" + filepath.Join(dir, "state"),
		"processing.guarantee=exactly_once_v2", "acceptable.recovery.lag=9223372036854775807", "session.timeout.ms=10000"}, more...)
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// wordCount counts words while the server and the counting program are killed,
// and compares each count that was ever told with the one before it.
func wordCount(t *testing.T, j *jvm) {
	const parts, lines, words = 4, 5_000, 50
	j.topics(t, "4", "lines", "counts")
	config := properties(t, j, "application.id=word-count", "replication.factor=3", "num.stream.threads=2", "commit.interval.ms=200",
		"default.key.serde=org.apache.kafka.common.serialization.Serdes$StringSerde", "default.value.serde=org.apache.kafka.common.serialization.Serdes$StringSerde",
		"auto.offset.reset=earliest", "statestore.cache.max.bytes=0", "producer.transaction.timeout.ms=10000")
	random, want := rand.New(rand.NewPCG(1, 2)), map[string]int{}
	feed := func() {
		var text strings.Builder
		for range lines {
			a, b := fmt.Sprintf("w%d", random.IntN(words)), fmt.Sprintf("w%d", random.IntN(words))
			want[a]++
			want[b]++
			text.WriteString(a + " " + b + "\n")
		}
		cmd := exec.CommandContext(t.Context(), binary(t), "produce", "lines", "--brokers", j.server.brokers)
		cmd.Stdin = strings.NewReader(text.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	count := func() *process { return j.start(t, "WordCount", config, "lines", "counts") }
	total := func() int {
		sum := 0
		for _, n := range counted(t, consume(t, j.server.brokers, "counts", "--keys")) {
			sum += n
		}
		return sum
	}
	reach := func(least int) {
		t.Helper()
		deadline, again := time.After(2*time.Minute), time.NewTicker(200*time.Millisecond)
		defer again.Stop()
		for total() < least {
			select {
			case <-again.C:
			case <-deadline:
				t.Fatalf("only %d of %d words are counted after two minutes", total(), least)
			}
		}
	}
	feed()
	counter := count()
	counter.await(t, time.Minute, running, 1)
	reach(1)
	feed()
	j.server.crash(t)
	reach(2*lines + 1) // in the middle of the second part
	feed()
	counter.kill()
	counter = count()
	reach(4*lines + 1)
	feed()
	j.server.crash(t)
	reach(2 * lines * parts)
	counter.stop(t)
	got := counted(t, consume(t, j.server.brokers, "counts", "--keys"))
	for word, n := range want {
		if got[word] != n {
			t.Errorf("%s was counted %d times, not %d", word, got[word], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d words were counted, not %d", len(got), len(want))
	}
}

// counted returns the last count of each word. Each count has to follow the one before it: with caching
// switched off one that is missing was lost, one that comes twice was told twice.
func counted(t *testing.T, lines []string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, l := range lines {
		if l == "" {
			continue
		}
		word, value, _ := strings.Cut(l, "\t")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if n != counts[word]+1 {
			t.Fatalf("the count of %s goes from %d to %d", word, counts[word], n)
		}
		counts[word] = n
	}
	return counts
}

// streamsEos runs Kafka's test of exactly-once: two instances, one killed and
// started anew, and a server that is killed.
func streamsEos(t *testing.T, j *jvm) {
	const class = streamsTests + "StreamsEosTest"
	j.topics(t, "5", "data", "echo", "min", "sum", "repartition", "max", "cnt")
	processed := regexp.MustCompile(`processed \d+ records from topic`)
	configs := []string{properties(t, j), properties(t, j)}
	generator := j.start(t, class, configs[0], "run")
	first := j.start(t, class, configs[0], "process-complex")
	second := j.start(t, class, configs[1], "process-complex")
	first.await(t, 2*time.Minute, processed, 2)
	second.await(t, 2*time.Minute, processed, 2)
	second.kill()
	second = j.start(t, class, configs[1], "process-complex")
	second.await(t, 2*time.Minute, processed, 2)
	j.server.crash(t)
	n, m := matches(first.printed(), processed), matches(second.printed(), processed)
	first.await(t, 2*time.Minute, processed, n+5)
	second.await(t, 2*time.Minute, processed, m+5)
	generator.stop(t)
	caughtUp(t, j, "EosTest", "data", 5)
	first.stop(t)
	second.stop(t)
	lines := j.run(t, 3*time.Minute, class, configs[0], "verify-complex")
	if matches(lines, regexp.MustCompile(`ALL-RECORDS-DELIVERED`)) == 0 {
		t.Errorf("not all records were delivered exactly once: %q", lines)
	}
}

// caughtUp waits until a group has committed all that there is of a topic.
func caughtUp(t *testing.T, j *jvm, group, topic string, partitions int) {
	t.Helper()
	deadline, again := time.After(3*time.Minute), time.NewTicker(500*time.Millisecond)
	defer again.Stop()
	for {
		var is struct {
			Partitions []struct {
				Topic           string
				CommittedOffset int64 `json:"committed_offset"`
				LogEndOffset    int64 `json:"log_end_offset"`
			}
		}
		out := command(t, ".", binary(t), "group", "describe", group, "--brokers", j.server.brokers, "--json")
		if err := json.Unmarshal([]byte(out), &is); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		done := 0
		for _, p := range is.Partitions {
			if p.Topic == topic && p.CommittedOffset == p.LogEndOffset {
				done++
			}
		}
		if done == partitions {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("group %s has not caught up with %s after three minutes: %s", group, topic, out)
		}
	}
}

// streamsSmoke runs Kafka's test of every kind of aggregate, join and window; it generates for 90 seconds.
func streamsSmoke(t *testing.T, j *jvm) {
	const class = streamsTests + "StreamsSmokeTest"
	j.topics(t, "5", "data", "echo", "max", "min", "min-suppressed", "min-raw", "dif", "sum", "sws-raw", "sws-suppressed", "cnt", "avg", "tagg", "wcnt", "fk")
	config := properties(t, j, "num.stream.threads=3", "replication.factor=1", "num.standby.replicas=2", "commit.interval.ms=1000",
		"buffered.records.per.partition=100", "auto.offset.reset=earliest", "acks=all")
	j.start(t, class, config, "process")
	lines := j.run(t, 5*time.Minute, class, config, "run")
	if matches(lines, regexp.MustCompile(`^SUCCESS`)) == 0 {
		t.Errorf("the aggregates are wrong: %q", lines[max(0, len(lines)-20):])
	}
}
