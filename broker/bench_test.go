package broker_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// benchmarkRecords are in one batch of the benchmarks, of 100 bytes each.
const (
	benchmarkRecords = 2000
	benchmarkBytes   = 100
)

func benchmarkBatch() []byte {
	var b record.Builder
	b.Reset(nil, record.None)
	value := make([]byte, benchmarkBytes)
	for range benchmarkRecords {
		b.Append(time.Now().UnixMilli(), nil, value, nil, 0)
	}
	return b.Finish()
}

// benchmarkBroker serves a topic and returns a connection to it.
func benchmarkBroker(b *testing.B) (*broker.Broker, net.Conn) {
	r, err := broker.Open(b.Context(), broker.Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler),
		TopicDefaults: map[string]string{"segment.bytes": "67108864"}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := r.Topics().Create(b.Context(), "bench", 1, nil); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		if err := r.Close(context.Background()); err != nil {
			b.Errorf("close: %v", err)
		}
		<-done
	})
	return r, c
}

// BenchmarkProduce is the price of a produced record with acks=1: the socket, the checks, the append.
func BenchmarkProduce(b *testing.B) {
	_, c := benchmarkBroker(b)
	req := kmsg.NewPtrProduceRequest()
	req.Acks = 1
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "bench"
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = benchmarkBatch()
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	bytes := request(req, 9)
	in := bufio.NewReader(c)
	b.SetBytes(int64(len(rp.Records)))
	for b.Loop() {
		if _, err := c.Write(bytes); err != nil {
			b.Fatal(err)
		}
		discardResponse(b, in)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchmarkRecords, "ns/record")
}

// BenchmarkFetch is the price of a consumed record: the read from the page cache and the socket.
func BenchmarkFetch(b *testing.B) {
	r, c := benchmarkBroker(b)
	p, err := r.Topics().Partition("bench", 0)
	if err != nil {
		b.Fatal(err)
	}
	for range 5 {
		if _, err := p.Append(b.Context(), benchmarkBatch(), 0); err != nil {
			b.Fatal(err)
		}
	}
	bytes := request(fetchRequest("bench", 0, 0), 12)
	in := bufio.NewReaderSize(c, 1<<20)
	for b.Loop() {
		if _, err := c.Write(bytes); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(discardResponse(b, in)))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(4*benchmarkRecords), "ns/record")
}

func discardResponse(b *testing.B, in *bufio.Reader) int {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		b.Fatal(err)
	}
	n, err := in.Discard(int(binary.BigEndian.Uint32(size[:])))
	if err != nil {
		b.Fatal(err)
	}
	return n
}
