package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// peerProcess is a server in a process of its own.
type peerProcess struct {
	cmd     *exec.Cmd
	stdin   io.Closer // nil for ours; closing it ends a peer
	address string
}

func (s *peerProcess) pid() int           { return s.cmd.Process.Pid }
func (s *peerProcess) cpu() time.Duration { return cpuOf(s.pid()) }

func (s *peerProcess) stop() {
	if s.stdin != nil {
		_ = s.stdin.Close()
	} else {
		_ = s.cmd.Process.Signal(os.Interrupt)
	}
	_ = s.cmd.Wait()
}

// serveKfake is the child's side: kfake in memory until stdin ends.
func serveKfake() error {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "in", "out"))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.ListenAddrs()[0])
	_, err = bufio.NewReader(os.Stdin).ReadString(0)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func startKfake() (*peerProcess, error) { return startPeer("-serve-kfake") }

// values makes n values of size bytes of a–z.
func values(n, size int) [][]byte {
	buf := make([]byte, n*size)
	for i := range buf {
		buf[i] = 'a' + byte(i*7%26)
	}
	out := make([][]byte, n)
	for i := range out {
		out[i] = buf[i*size : (i+1)*size : (i+1)*size]
	}
	return out
}

// produce sends values to a topic and waits for every promise; it
// returns the wall time and the client's CPU time.
func produce(ctx context.Context, address, topic string, vals [][]byte, acks kgo.Acks) (wall, cpu time.Duration, err error) {
	opts := []kgo.Opt{kgo.SeedBrokers(address), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchMaxBytes(1_000_000), kgo.RequiredAcks(acks), kgo.DefaultProduceTopic(topic)}
	if acks != kgo.AllISRAcks() {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: vals[0]}).FirstErr(); err != nil {
		return 0, 0, err
	}
	recs := make([]kgo.Record, len(vals))
	var failed error
	t0, c0 := time.Now(), processCPU()
	for i := range vals {
		recs[i].Value = vals[i]
		cl.Produce(ctx, &recs[i], func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return 0, 0, err
	}
	return time.Since(t0), processCPU() - c0, failed
}

// produceFrom lets several clients produce side by side, each its own connection, and returns the wall time of all.
func produceFrom(ctx context.Context, clients int, address string, vals [][]byte, acks kgo.Acks) (time.Duration, error) {
	var all errgroup.Group
	began := time.Now()
	for range clients {
		all.Go(func() error {
			_, _, err := produce(ctx, address, "in", vals, acks)
			return err
		})
	}
	err := all.Wait()
	return time.Since(began), err
}

// consume reads at least n records of topic "in" from its start.
func consume(ctx context.Context, address string, n int) (wall, cpu time.Duration, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics("in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	got := 0
	t0, c0 := time.Now(), processCPU()
	for got < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return 0, 0, err
		}
		got += fs.NumRecords()
	}
	return time.Since(t0), processCPU() - c0, nil
}

// createTopic makes a topic with one partition; an existing one is fine.
func createTopic(ctx context.Context, address, name string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 1, 1
	req.Topics = append(req.Topics, topic)
	_, err = req.RequestWith(ctx, cl)
	return err
}
