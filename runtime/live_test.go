package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/engine/embedded"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/worker"
)

// live is the whole of a server without its ports: broker, engine, host and runtime over a file system in memory.
type live struct {
	t       testing.TB
	fs      vfs.FS
	broker  *broker.Broker
	engine  engine.Engine
	host    *host.Host
	runtime *runtime.Runtime
}

func openLive(t testing.TB, fs vfs.FS) *live {
	t.Helper()
	return openLiveAt(t, fs, "data")
}

func openLiveAt(t testing.TB, fs vfs.FS, dir string) *live {
	t.Helper()
	l := &live{t: t, fs: fs}
	logger := slog.New(slog.DiscardHandler)
	var err error
	l.broker, err = broker.Open(t.Context(), broker.Options{FS: fs, Dir: dir, Logger: logger})
	l.ok(err)
	l.engine = embedded.New(l.broker.Topics(), l.broker.Groups(), l.broker.Transactions(), embedded.Options{Logger: logger})
	l.host, err = host.New(t.Context(), host.Options{})
	l.ok(err)
	l.runtime, err = runtime.Open(t.Context(), runtime.Options{Engine: l.engine, Host: l.host, Logger: logger})
	l.ok(err)
	return l
}

func (l *live) close() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l.ok(l.runtime.Close(ctx))
	l.ok(l.host.Close(ctx))
	l.ok(l.broker.Close(ctx))
}

func (l *live) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) deploy(name, mode string, inputs []string, to string, change func(*deploy.Spec)) runtime.Status {
	l.t.Helper()
	report, err := l.runtime.PutModule(l.t.Context(), guest(l.t))
	l.ok(err)
	s := deploy.Spec{
		Name: name, Module: report.Digest.String(), Inputs: inputs, Outputs: []deploy.Output{{Topic: to}},
		Config: map[string]string{"mode": mode}, Start: "earliest",
	}
	if change != nil {
		change(&s)
	}
	status, err := l.runtime.Deploy(l.t.Context(), s, runtime.DeployOptions{CreateTopics: true})
	l.ok(err)
	return status
}

func (l *live) produce(topic string, values ...string) {
	l.t.Helper()
	records := make([]engine.Record, len(values))
	for i, v := range values {
		records[i] = engine.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte(v)}
	}
	l.ok(l.engine.Append(l.t.Context(), topic, records))
}

// consume returns the first n records of a topic, waiting for them.
func (l *live) consume(topic string, n int) []engine.Record {
	l.t.Helper()
	var got []engine.Record
	l.follow(topic, n, func(r engine.Record) {
		r.Value = slices.Clone(r.Value)
		r.Headers = slices.Clone(r.Headers)
		for i := range r.Headers {
			r.Headers[i].Value = slices.Clone(r.Headers[i].Value)
		}
		got = append(got, r)
	})
	return got
}

// follow calls f for the first n records of a topic, waiting for them.
func (l *live) follow(topic string, n int, f func(engine.Record)) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	count, enough := 0, errors.New("that is enough")
	err := l.engine.Follow(ctx, topic, nil, func(_ int32, r engine.Record) error {
		f(r)
		if count++; count == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		l.t.Fatalf("%s has %d records, want %d: %v", topic, count, n, err)
	}
}

func (l *live) wantValues(topic string, want ...string) []engine.Record {
	l.t.Helper()
	got := l.consume(topic, len(want))
	for i, r := range got {
		if string(r.Value) != want[i] {
			l.t.Errorf("record %d of %s is %q, want %q", i, topic, r.Value, want[i])
		}
	}
	return got
}

// guest builds the Go guest of the host's tests, with TinyGo when it is there.
func guest(t testing.TB) []byte {
	t.Helper()
	wasm, err := buildGuest()
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

var buildGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "millstream-runtime-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	command := exec.Command("tinygo", "build", "-target=wasip1", "-buildmode=c-shared", "-scheduler=none", "-no-debug", "-o", out, ".")
	command.Env = append(os.Environ(), "GOWORK=off")
	if command.Err != nil {
		command = exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, ".")
		command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	}
	command.Dir = filepath.Join("host", "testdata", "goguest")
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", command, err, text)
	}
	return os.ReadFile(out)
})

func TestLiveChainSurvivesARestart(t *testing.T) {
	fs := vfs.NewMem()
	l := openLive(t, fs)
	l.deploy("first", "identity", []string{"notes"}, "clean", nil)
	l.deploy("second", "words", []string{"clean"}, "words", nil)
	l.produce("notes", "one two", "three")
	l.wantValues("words", "one", "two", "three")
	l.close()

	l = openLive(t, fs)
	l.produce("notes", "four")
	l.wantValues("words", "one", "two", "three", "four")
	// A language that joins later catches up from the start of the topic.
	l.deploy("late", "identity", []string{"clean"}, "late", nil)
	l.wantValues("late", "one two", "three", "four")
	status, err := l.runtime.Status(t.Context(), "second")
	l.ok(err)
	if status.Phase != worker.PhaseRunning || status.Records != 1 {
		t.Errorf("status after the restart is %+v", status)
	}
	l.close()
}

func TestLiveFailuresGoToTheDeadLetterTopic(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	l.deploy("words", "words", []string{"in"}, "out", nil)
	l.deploy("spin", "spin", []string{"in2"}, "out2", func(s *deploy.Spec) { s.Limits.FuelPerRecord = 1_000_000 })
	l.produce("in", "a b", "c bad d", "e")
	l.wantValues("out", "a", "b", "e")
	letter := l.wantValues("words.dlq", "c bad d")[0]
	headers := map[string]string{}
	for _, h := range letter.Headers {
		headers[h.Name] = string(h.Value)
	}
	if headers[deadletter.HeaderKind] != deadletter.KindReject || headers[deadletter.HeaderReason] != "a bad word" || headers[deadletter.HeaderOffset] != "1" {
		t.Errorf("headers are %v", headers)
	}
	values := []string{}
	for i := range 100 {
		values = append(values, fmt.Sprint("ok", i))
	}
	values[42] = "spin"
	l.produce("in2", values...)
	l.wantValues("out2", slices.Delete(slices.Clone(values), 42, 43)...)
	if kind := l.wantValues("spin.dlq", "spin")[0].Headers[1]; string(kind.Value) != "trap/fuel" {
		t.Errorf("kind of the runaway is %s=%s", kind.Name, kind.Value)
	}
	l.close()
}

func TestLiveLogs(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	l.deploy("print", "print", []string{"in"}, "out", nil)
	l.produce("in", "hello")
	var text strings.Builder
	for _, r := range l.consume(runtime.LogsTopic, 4) {
		text.Write(r.Value)
	}
	for _, want := range []string{"started", "ready as print", "logged hello", `"topic":"in","partition":0`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("log lines have no %q: %s", want, &text)
		}
	}
	l.close()
}

func TestLiveDeploymentThatDoesNotStart(t *testing.T) {
	l := openLive(t, vfs.NewMem())
	report, err := l.runtime.PutModule(t.Context(), guest(t))
	l.ok(err)
	s := deploy.Spec{
		Name: "x", Module: report.Digest.String(), Inputs: []string{"in"}, Outputs: []deploy.Output{{Topic: "out"}},
		Config: map[string]string{"mode": "unknown"},
	}
	_, err = l.runtime.Deploy(t.Context(), s, runtime.DeployOptions{CreateTopics: true})
	if err == nil || !strings.Contains(err.Error(), "config mode=unknown: unknown") {
		t.Errorf("error is %v", err)
	}
	l.close()
}

// BenchmarkLatency is the way of one record through an idle topic: append (with its flush), wake, guest, output, read.
func BenchmarkLatency(b *testing.B) {
	l := openLiveAt(b, vfs.OS{}, b.TempDir())
	l.deploy("up", "identity", []string{"in"}, "out", nil)
	seen := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(b.Context())
	var following sync.WaitGroup
	following.Go(func() {
		_ = l.engine.Follow(ctx, "out", nil, func(int32, engine.Record) error { seen <- struct{}{}; return nil })
	})
	var all []time.Duration
	for b.Loop() {
		started := time.Now()
		l.produce("in", "x")
		<-seen
		all = append(all, time.Since(started))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	cancel()
	following.Wait()
	l.close()
}

// BenchmarkThroughput is what a deployment makes of a topic of records of 100 bytes, from the start of the topic to its end, deploying included.
func BenchmarkThroughput(b *testing.B) {
	const batches, perBatch = 200, 1000
	guest(b) // its build is not what is measured
	values := make([]string, perBatch)
	for i := range values {
		values[i] = strings.Repeat("x", 100)
	}
	for b.Loop() {
		b.StopTimer()
		l := openLive(b, vfs.NewMem())
		l.ok(l.engine.EnsureTopic(b.Context(), "in", 1, nil))
		for range batches {
			l.produce("in", values...)
		}
		b.StartTimer()
		l.deploy("up", "identity", []string{"in"}, "out", nil)
		l.follow("out", batches*perBatch, func(engine.Record) {})
		b.StopTimer()
		l.close()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(batches*perBatch), "ns/record")
}

// BenchmarkDeploy is a deployment from upload to running, of a module that was not compiled before.
func BenchmarkDeploy(b *testing.B) {
	wasm := guest(b)
	for b.Loop() {
		b.StopTimer()
		l := openLive(b, vfs.NewMem())
		b.StartTimer()
		l.deploy("up", "identity", []string{"in"}, "out", nil)
		b.StopTimer()
		l.close()
		b.StartTimer()
	}
	b.ReportMetric(float64(len(wasm)), "module-bytes")
}
