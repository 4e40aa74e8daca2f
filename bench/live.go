package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// liveResult is what a user of the running server sees.
type liveResult struct {
	binaryBytes, residentBytes int64
	ready                      []time.Duration
	moduleBytes                int64
	deployed                   time.Duration // the deploy command, from its start to its end
	firstOutput                time.Duration // from the end of deploy to the first output of a record produced then
	latency                    []time.Duration
}

// live measures start, deployment and the latency of single records through a deployment of a running server.
func live(ctx context.Context, binary string, guest []byte, dir string) (*liveResult, error) {
	r := &liveResult{}
	if st, err := os.Stat(binary); err == nil {
		r.binaryBytes = st.Size()
	}
	for i := range 7 {
		s, _, took, err := startMillstream(binary, filepath.Join(dir, fmt.Sprint("start", i)))
		if err != nil {
			return nil, err
		}
		r.ready = append(r.ready, took)
		time.Sleep(300 * time.Millisecond) // idle is meant, not the moment after the start
		r.residentBytes = max(r.residentBytes, residentBytes(s.pid()))
		s.stop()
	}
	s, admin, _, err := startMillstream(binary, filepath.Join(dir, "live"))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	module, err := liveModule(guest, dir)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(module); err == nil {
		r.moduleBytes = st.Size()
	}
	began := time.Now()
	cmd := exec.Command(binary, "deploy", module, "--name", "bench", "--from", "in", "--to", "out", "--create-topics")
	cmd.Env = append(os.Environ(), "MILLSTREAM_ADMIN="+admin, "MILLSTREAM_BROKERS="+s.address)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("deploy: %w\n%s", err, out)
	}
	r.deployed = time.Since(began)
	return r, r.roundTrips(ctx, s.address)
}

// liveModule is a module of the size of a small plugin: TinyGo's if there is one, else the C guest.
func liveModule(guest []byte, dir string) (string, error) {
	path := filepath.Join(dir, "live.wasm")
	if tinygo, err := exec.LookPath("tinygo"); err == nil {
		cmd := exec.Command(tinygo, "build", "-target=wasip1", "-buildmode=c-shared", "-scheduler=none", "-opt=2", "-no-debug", "-o", path, ".")
		cmd.Dir = "../plugins/upper"
		if cmd.Run() == nil {
			return path, nil
		}
	}
	return path, os.WriteFile(path, guest, 0o600)
}

// roundTrips produces one record after the other to an idle topic and waits for each one's output.
func (r *liveResult) roundTrips(ctx context.Context, address string) error {
	producer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic("in"), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer producer.Close()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics("out"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer consumer.Close()
	for i := range 301 {
		began := time.Now()
		producer.Produce(ctx, &kgo.Record{Value: []byte("hello")}, nil)
		for got := 0; got == 0; {
			fs := consumer.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				return err
			}
			got = fs.NumRecords()
		}
		if i == 0 {
			r.firstOutput = time.Since(began)
			continue
		}
		r.latency = append(r.latency, time.Since(began))
		time.Sleep(5 * time.Millisecond) // idle again
	}
	return nil
}
