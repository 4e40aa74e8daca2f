package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// scale: many partitions, an unclean restart, idle connections, and a large topic if asked for; each in a server of its own.
func (b *bench) scale(ctx context.Context) error {
	title("Scale")
	if err := b.manyPartitions(ctx, 10_000); err != nil {
		return fmt.Errorf("10,000 partitions: %w", err)
	}
	for _, c := range []struct {
		partitions int
		goal       string
	}{{100, "≤ 1s"}, {1000, "≤ 5s"}} {
		if err := b.uncleanRestart(ctx, c.partitions, 1<<30, c.goal); err != nil {
			return fmt.Errorf("unclean restart: %w", err)
		}
	}
	if b.large > 0 {
		if err := b.largeTopic(ctx, b.large); err != nil {
			return fmt.Errorf("large topic: %w", err)
		}
	}
	if err := b.idleConnections(ctx, 9_990); err != nil {
		return fmt.Errorf("idle connections: %w", err)
	}
	return nil
}

func figure(what, value, goal string) { fmt.Printf("  %-66s %10s   goal %s\n", what, value, goal) }

func millis(d time.Duration) string { return d.Round(time.Millisecond).String() }

func megabytes(n int64) string { return fmt.Sprintf("%d MB", n/1e6) }

// openFiles counts the file descriptors of a process.
func openFiles(pid int) int {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(names)
}

// kill ends a server without giving it a moment.
func (s *peerProcess) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// partitionsPerTopic spreads partitions over topics as users do.
const partitionsPerTopic = 100

func (b *bench) manyPartitions(ctx context.Context, n int) error {
	dir := filepath.Join(b.dir, "partitions")
	s, _, _, err := startMillstream(b.binary, dir)
	if err != nil {
		return err
	}
	defer func() { s.kill() }()
	began := time.Now()
	if err := createPartitioned(ctx, s.address, n); err != nil {
		return err
	}
	figure(fmt.Sprintf("%d partitions: create", n), millis(time.Since(began)), "–")
	began = time.Now()
	if err := produceToAll(ctx, s.address, n, 1, 100); err != nil {
		return err
	}
	figure("one record to each, acks=all", millis(time.Since(began)), "–")
	figure("resident after it", megabytes(residentBytes(s.pid())), "–")
	figure("open files after it", strconv.Itoa(openFiles(s.pid())), "–")
	s.kill()
	began = time.Now()
	if s, _, _, err = startMillstream(b.binary, dir); err != nil {
		return err
	}
	if err := produceOne(ctx, s.address, "scale-0", 0); err != nil {
		return err
	}
	figure("kill -9, start, first acknowledged write", millis(time.Since(began)), "–")
	figure("resident after it", megabytes(residentBytes(s.pid())), "–")
	end, err := sumOfEnds(ctx, s.address, n)
	if err == nil && end != int64(n)+1 {
		err = fmt.Errorf("%d records are left of %d", end, n+1)
	}
	return err
}

func (b *bench) uncleanRestart(ctx context.Context, partitions int, bytes int64, goal string) error {
	dir := filepath.Join(b.dir, fmt.Sprint("restart", partitions))
	s, _, _, err := startMillstream(b.binary, dir)
	if err != nil {
		return err
	}
	defer func() { s.kill() }()
	if err := createPartitioned(ctx, s.address, partitions); err != nil {
		return err
	}
	const recordBytes = 10_000
	if err := produceToAll(ctx, s.address, partitions, int(bytes/recordBytes/int64(partitions)), recordBytes); err != nil {
		return err
	}
	s.kill()
	began := time.Now()
	if s, _, _, err = startMillstream(b.binary, dir); err != nil {
		return err
	}
	if err := produceOne(ctx, s.address, "scale-0", 0); err != nil {
		return err
	}
	figure(fmt.Sprintf("kill -9 with %d partitions, %s: first acknowledged write", partitions, megabytes(bytes)), millis(time.Since(began)), goal)
	figure("CPU of the server until then", millis(s.cpu()), "–")
	return os.RemoveAll(dir)
}

func (b *bench) largeTopic(ctx context.Context, bytes int64) error {
	dir := filepath.Join(b.dir, "large")
	s, _, _, err := startMillstream(b.binary, dir)
	if err != nil {
		return err
	}
	defer func() { s.kill(); _ = os.RemoveAll(dir) }()
	if err := createPartitioned(ctx, s.address, 1); err != nil {
		return err
	}
	var peak atomic.Int64
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			peak.Store(max(peak.Load(), residentBytes(s.pid())))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	const recordBytes = 10_000
	n := int(bytes / recordBytes)
	err = produceToAll(ctx, s.address, 1, n, recordBytes)
	if err == nil {
		_, _, err = consumeTopic(ctx, s.address, "scale-0", n)
	}
	close(done)
	watch.Wait()
	figure(fmt.Sprintf("a topic of %s produced and consumed: resident, largest", megabytes(bytes)), megabytes(peak.Load()), "≤ 200 MB")
	return err
}

func (b *bench) idleConnections(ctx context.Context, n int) error {
	s, _, _, err := startMillstream(b.binary, filepath.Join(b.dir, "idle"))
	if err != nil {
		return err
	}
	defer func() { s.kill() }()
	if err := createPartitioned(ctx, s.address, 1); err != nil {
		return err
	}
	alone, err := writeLatencies(ctx, s.address)
	if err != nil {
		return err
	}
	before := residentBytes(s.pid())
	conns := make([]net.Conn, 0, n)
	hangUp := func() {
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
	}
	defer hangUp()
	for i := range n {
		// One address may hold a thousand connections.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/900))}}
		c, err := d.DialContext(ctx, "tcp", s.address)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, c)
		if err := askVersions(c); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	beside, err := writeLatencies(ctx, s.address)
	if err != nil {
		return err
	}
	figure(fmt.Sprintf("%d idle connections that were used once: resident", n), megabytes(residentBytes(s.pid())), "≤ 300 MB")
	figure("of that without them", megabytes(before), "–")
	hangUp()
	again, err := writeLatencies(ctx, s.address)
	if err != nil {
		return err
	}
	alone = append(alone, again...)
	fmt.Printf("  one record after the other, acks=1, p50 and p99: alone %s and %s, beside them %s and %s\n",
		micros(quantile(alone, 0.5)), micros(quantile(alone, 0.99)), micros(quantile(beside, 0.5)), micros(quantile(beside, 0.99)))
	ratio("p99 beside them / alone", float64(quantile(beside, 0.99))/float64(quantile(alone, 0.99)), "≤ 2")
	return nil
}

func micros(d time.Duration) string { return d.Round(time.Microsecond).String() }

// writeLatencies writes single records one after the other, each when the one before is acknowledged.
func writeLatencies(ctx context.Context, address string) ([]time.Duration, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic("scale-0"), kgo.ProducerLinger(0),
		kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	const warmUp, count = 200, 5000
	var out []time.Duration
	for i := range warmUp + count {
		began := time.Now()
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("one")}).FirstErr(); err != nil {
			return nil, err
		}
		if i >= warmUp {
			out = append(out, time.Since(began))
		}
	}
	return out, nil
}

// askVersions sends one request and reads the answer.
func askVersions(c net.Conn) error {
	body := []byte{0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff} // ApiVersions version 0, no client id
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := c.Read(size[:]); err != nil {
		return err
	}
	answer := make([]byte, binary.BigEndian.Uint32(size[:]))
	for got := 0; got < len(answer); {
		n, err := c.Read(answer[got:])
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

// createPartitioned makes topics scale-0, scale-1, … with n partitions in all.
func createPartitioned(ctx context.Context, address string, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		return err
	}
	defer cl.Close()
	for first := 0; first < n; first += partitionsPerTopic {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 60_000
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint("scale-", first/partitionsPerTopic), int32(min(partitionsPerTopic, n-first)), 1
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if code := resp.Topics[0].ErrorCode; code != 0 {
			return fmt.Errorf("create %s: error %d", t.Topic, code)
		}
	}
	return nil
}

// produceToAll sends count records to each of n partitions and waits until all are acknowledged.
func produceToAll(ctx context.Context, address string, n, count, size int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(1_000_000), kgo.MaxBufferedBytes(64<<20), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(4))
	if err != nil {
		return err
	}
	defer cl.Close()
	value := values(1, size)[0]
	var failed atomic.Pointer[error]
	for range count {
		for p := range n {
			cl.Produce(ctx, &kgo.Record{Topic: fmt.Sprint("scale-", p/partitionsPerTopic), Partition: int32(p % partitionsPerTopic), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Store(&err)
				}
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func produceOne(ctx context.Context, address, topic string, partition int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite())
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("first")}).FirstErr()
}

// sumOfEnds adds up the end offsets of n partitions.
func sumOfEnds(ctx context.Context, address string, n int) (sum int64, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	for p := range n {
		if p%partitionsPerTopic == 0 {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = fmt.Sprint("scale-", p/partitionsPerTopic)
			req.Topics = append(req.Topics, t)
		}
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = int32(p%partitionsPerTopic), -1
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, part)
	}
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return 0, shard.Err
		}
		resp, ok := shard.Resp.(*kmsg.ListOffsetsResponse)
		if !ok {
			return 0, errors.New("no answer about offsets")
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				sum += p.Offset
			}
		}
	}
	return sum, nil
}

// consumeTopic reads n records of a topic from its start.
func consumeTopic(ctx context.Context, address, topic string, n int) (wall, cpu time.Duration, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	t0, c0 := time.Now(), processCPU()
	for got := 0; got < n; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return 0, 0, err
		}
		got += fs.NumRecords()
	}
	return time.Since(t0), processCPU() - c0, nil
}
