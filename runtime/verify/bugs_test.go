package verify

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// codec is a bug that reads requests and changes answers as messages.
type codec struct {
	change func(c *codec, r kmsg.Request)  // nil for none
	answer func(c *codec, a kmsg.Response) // to produces and fetches; nil for none

	proxy *proxy
	count atomic.Int64
}

// decode reads the message behind a request's header.
func decode(r *request) (header []byte, m kmsg.Request) {
	m = kmsg.RequestForKey(r.key)
	if m == nil {
		return nil, nil
	}
	m.SetVersion(r.version)
	at := 8
	if len(r.frame) < at+2 {
		return nil, nil
	}
	at += 2 + max(0, int(int16(binary.BigEndian.Uint16(r.frame[at:])))) // the client id
	if m.IsFlexible() {
		at++ // no tags: clients send none
	}
	if at > len(r.frame) || m.ReadFrom(r.frame[at:]) != nil {
		return nil, nil
	}
	return r.frame[:at:at], m
}

func (c *codec) request(r *request) []byte {
	if c.change == nil {
		return nil
	}
	header, m := decode(r)
	if m == nil {
		return nil
	}
	c.change(c, m)
	r.frame = m.AppendTo(header)
	return nil
}

func (c *codec) response(r *request, frame []byte) []byte {
	if c.answer == nil || (r.key != keyProduce && r.key != keyFetch) {
		return frame
	}
	_, m := decode(r)
	if m == nil {
		return frame
	}
	a := m.ResponseKind()
	a.SetVersion(r.version)
	at := 4 // behind the correlation id
	if a.IsFlexible() {
		at++
	}
	if at > len(frame) || a.ReadFrom(frame[at:]) != nil {
		return frame
	}
	c.answer(c, a)
	return a.AppendTo(frame[:at:at])
}

// nth is true once in n calls.
func (c *codec) nth(n int64) bool { return c.count.Add(1)%n == 0 }

// batch is a record batch within a fetched or produced run of them.
type batch []byte

// Fields of a record batch, by position.
const (
	batchLength     = 8
	batchCRC        = 17
	batchAttributes = 21
	batchLastDelta  = 23
	batchProducer   = 43
	batchEpoch      = 51
	batchSequence   = 53
	batchHeader     = 61
)

const (
	attributeTransactional = 0x10
	attributeControl       = 0x20
)

func (b batch) offset() int64      { return int64(binary.BigEndian.Uint64(b)) }
func (b batch) setOffset(o int64)  { binary.BigEndian.PutUint64(b, uint64(o)) }
func (b batch) attributes() uint16 { return binary.BigEndian.Uint16(b[batchAttributes:]) }
func (b batch) control() bool      { return b.attributes()&attributeControl != 0 }
func (b batch) transactional() bool {
	return b.attributes()&attributeTransactional != 0 && !b.control()
}
func (b batch) count() int64    { return int64(binary.BigEndian.Uint32(b[batchLastDelta:])) + 1 }
func (b batch) producer() int64 { return int64(binary.BigEndian.Uint64(b[batchProducer:])) }
func (b batch) epoch() int16    { return int16(binary.BigEndian.Uint16(b[batchEpoch:])) }

// anonymous makes a batch one of no producer and no transaction.
func (b batch) anonymous() batch {
	b = append(batch(nil), b...)
	binary.BigEndian.PutUint16(b[batchAttributes:], b.attributes()&^attributeTransactional)
	for i := batchProducer; i < batchSequence+4; i++ {
		b[i] = 0xff
	}
	binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchAttributes:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// batches splits what a fetch has returned; what is cut short at the end is left out.
func batches(records []byte) []batch {
	var out []batch
	for len(records) >= batchHeader {
		n := 12 + int(binary.BigEndian.Uint32(records[batchLength:]))
		if n > len(records) {
			break
		}
		out = append(out, batch(records[:n:n]))
		records = records[n:]
	}
	return out
}

// fetched calls f for what an answer holds of each partition.
func fetched(a kmsg.Response, f func(partition *kmsg.FetchResponseTopicPartition)) {
	fetch, ok := a.(*kmsg.FetchResponse)
	if !ok {
		return
	}
	for i := range fetch.Topics {
		for j := range fetch.Topics[i].Partitions {
			f(&fetch.Topics[i].Partitions[j])
		}
	}
}

// keep keeps the batches of an answer that f wants.
func keep(a kmsg.Response, f func(partition int32, b batch) bool) {
	fetched(a, func(p *kmsg.FetchResponseTopicPartition) {
		var out []byte
		for _, b := range batches(p.RecordBatches) {
			if b.control() || f(p.Partition, b) {
				out = append(out, b...)
			}
		}
		p.RecordBatches = out
	})
}

// swap lets two batches of each partition change places: the first two with as many records, but for markers between them.
func swap(a kmsg.Response) {
	fetched(a, func(p *kmsg.FetchResponseTopicPartition) {
		all := batches(p.RecordBatches)
		before := -1
		for i, b := range all {
			if b.control() {
				continue
			}
			if before >= 0 && all[before].count() == b.count() {
				first, second := all[before].offset(), b.offset()
				all[before].setOffset(second)
				b.setOffset(first)
				all[before], all[i] = b, all[before]
				p.RecordBatches = bytes.Join(asBytes(all), nil)
				return
			}
			before = i
		}
	})
}

func asBytes(all []batch) (out [][]byte) {
	for _, b := range all {
		out = append(out, b)
	}
	return out
}

// damage changes a bit near the end of every nth batch, and mends the batch's checksum.
func damage(a kmsg.Response, c *codec, n int64) {
	fetched(a, func(p *kmsg.FetchResponseTopicPartition) {
		for _, b := range batches(p.RecordBatches) {
			if !b.control() && c.nth(n) {
				b[len(b)-2] ^= 0x10
				binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchAttributes:], crc32.MakeTable(crc32.Castagnoli)))
			}
		}
	})
}

// again produces a batch once more, as nobody.
func (p *proxy) again(m *kmsg.ProduceRequest, topic kmsg.ProduceRequestTopic, partition kmsg.ProduceRequestTopicPartition) {
	c, err := net.DialTimeout("tcp", *p.target.Load(), time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(m.GetVersion())
	r.Acks, r.TimeoutMillis = -1, 1000
	partition.Records = batch(partition.Records).anonymous()
	topic.Partitions = []kmsg.ProduceRequestTopicPartition{partition}
	r.Topics = []kmsg.ProduceRequestTopic{topic}
	header := binary.BigEndian.AppendUint16(nil, uint16(r.Key()))
	header = binary.BigEndian.AppendUint16(header, uint16(r.GetVersion()))
	header = append(header, 0, 0, 0, 1, 0xff, 0xff)
	if r.IsFlexible() {
		header = append(header, 0)
	}
	if writeFrame(c, r.AppendTo(header)) == nil {
		_, _ = readFrame(c)
	}
}
