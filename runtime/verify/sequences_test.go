package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A value is mark u8, sequence u64, crc u32 over key, sequence and padding, padding.
const (
	valueHeader      = 13
	valueSequenceEnd = 9
)

// Picky modules trap on one sequence in poisonEvery, the one that leaves poison; a power of two that fits a byte.
const (
	poisonEvery = 128
	poison      = 7
)

func encodeValue(key string, sequence uint64, padding []byte) []byte {
	v := append(make([]byte, valueHeader), padding...)
	binary.BigEndian.PutUint64(v[1:], sequence)
	binary.BigEndian.PutUint32(v[9:], checksum([]byte(key), v))
	return v
}

func checksum(key, value []byte) uint32 {
	h := crc32.NewIEEE()
	h.Write(key)
	h.Write(value[1:9])
	h.Write(value[valueHeader:])
	return h.Sum32()
}

func decodeValue(key, value []byte) (mark byte, sequence uint64, err error) {
	if len(value) < valueHeader || binary.BigEndian.Uint32(value[9:]) != checksum(key, value) {
		return 0, 0, fmt.Errorf("key %q: the value is damaged: %x", key, value)
	}
	return value[0], binary.BigEndian.Uint64(value[1:]), nil
}

// source sends known sequences: for each key 0, 1, 2, … without a gap, each acknowledged in the end.
type source struct {
	client *kgo.Client
	keys   []string
	next   []uint64 // by key
	sent   atomic.Int64
	mu     sync.Mutex
	failed error
}

func newSource(brokers string, keys int) (*source, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.AlwaysRetryEOF(), kgo.DefaultProduceTopic("in"), kgo.ProducerLinger(time.Millisecond),
		kgo.ProduceRequestTimeout(2*time.Second), kgo.RequestTimeoutOverhead(2*time.Second), kgo.MaxBufferedRecords(500),
		kgo.RetryBackoffFn(shortBackoff), kgo.MetadataMinAge(50*time.Millisecond), kgo.ProducerBatchMaxBytes(16<<10))
	if err != nil {
		return nil, err
	}
	s := &source{client: client, next: make([]uint64, keys)}
	for i := range keys {
		s.keys = append(s.keys, fmt.Sprintf("key-%d", i))
	}
	return s, nil
}

func shortBackoff(tries int) time.Duration {
	return min(time.Duration(tries)*10*time.Millisecond, 100*time.Millisecond)
}

// send sends until ctx ends, in bursts of a few records, and then waits for all answers.
func (s *source) send(ctx context.Context, random *rand.Rand) error {
	padding := make([]byte, 200)
	for ctx.Err() == nil {
		for range 1 + random.IntN(10) {
			i := random.IntN(len(s.keys))
			r := &kgo.Record{Key: []byte(s.keys[i]), Value: encodeValue(s.keys[i], s.next[i], padding[:random.IntN(len(padding))])}
			s.next[i]++
			s.client.Produce(context.WithoutCancel(ctx), r, s.acknowledged)
			s.sent.Add(1)
		}
		select {
		case <-time.After(between(random, 0, 6*time.Millisecond)):
		case <-ctx.Done():
		}
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := s.client.Flush(flush); err != nil {
		return fmt.Errorf("%d records were never acknowledged: %w", s.client.BufferedProduceRecords(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// acknowledged notes that a record will never be written: with idempotence and no limit of tries none may.
func (s *source) acknowledged(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = errors.Join(s.failed, fmt.Errorf("%s: %w", r.Key, err))
}

// stream is a topic and a mark in which every sequence has to appear once and
// in order; anyMark where versions of a module mark differently.
type stream struct {
	topic string
	mark  int
	part  part
}

const anyMark = -1

// part says which records belong to a stream.
type part int

const (
	all      part = iota
	passed        // those that a picky module does not trap on
	poisoned      // the others
)

// from is the first sequence from n on that belongs to a part.
func (p part) from(n uint64) uint64 {
	switch {
	case p == passed && n%poisonEvery == poison:
		return n + 1
	case p == poisoned:
		return n + (poison-n)%poisonEvery
	}
	return n
}

// sink reads topics from their start, committed records only, and compares them with the sequences.
type sink struct {
	client  *kgo.Client
	streams []stream

	mu         sync.Mutex
	next       map[stream]map[string]uint64 // by key
	marks      map[byte]int64
	taken      map[stream]int64
	violations []string
	count      int // of violations
}

func newSink(brokers string, streams []stream, partitions int32) (*sink, error) {
	consume := map[string]map[int32]kgo.Offset{}
	s := &sink{streams: streams, next: map[stream]map[string]uint64{}, marks: map[byte]int64{}, taken: map[stream]int64{}}
	for _, st := range streams {
		s.next[st] = map[string]uint64{}
		consume[st.topic] = map[int32]kgo.Offset{}
		for n := range partitions {
			consume[st.topic][n] = kgo.NewOffset().AtStart()
		}
	}
	var err error
	s.client, err = kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.AlwaysRetryEOF(), kgo.ConsumePartitions(consume), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.RequestTimeoutOverhead(2*time.Second), kgo.RetryBackoffFn(shortBackoff),
		kgo.MetadataMinAge(50*time.Millisecond))
	return s, err
}

// read reads until ctx ends or everything up to expected (by key) has come to every stream; nil never has.
func (s *sink) read(ctx context.Context, expected []uint64, keys []string) {
	given := received{}
	for ctx.Err() == nil && (expected == nil || s.missing(expected, keys) != nil) {
		poll, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := s.client.PollFetches(poll)
		cancel()
		fetches.EachError(func(topic string, n int32, err error) {
			if given.lost(err) {
				s.violation("%s/%d: %v", topic, n, err)
			}
		})
		fetches.EachRecord(given.take)
		fetches.EachRecord(s.take)
	}
}

func (s *sink) take(r *kgo.Record) {
	at := fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
	mark, sequence, err := decodeValue(r.Key, r.Value)
	if err != nil {
		s.violation("%s: %v", at, err)
		return
	}
	i := slices.IndexFunc(s.streams, func(st stream) bool {
		return st.topic == r.Topic && (st.mark == anyMark || st.mark == int(mark))
	})
	if i < 0 {
		s.violation("%s: mark %d belongs to no output", at, mark)
		return
	}
	s.mu.Lock()
	next := s.next[s.streams[i]]
	want := s.streams[i].part.from(next[string(r.Key)])
	next[string(r.Key)] = max(next[string(r.Key)], sequence+1)
	s.marks[mark]++
	s.taken[s.streams[i]]++
	s.mu.Unlock()
	switch {
	case sequence < want:
		s.violation("%s: %s has %d again, or late, or it belongs elsewhere: %d should come; mark %d", at, r.Key, sequence, want, mark)
	case sequence > want:
		s.violation("%s: %s goes on with %d, %d to %d are missing; mark %d", at, r.Key, sequence, want, sequence-1, mark)
	}
}

func (s *sink) violation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count++; s.count <= 10 {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

// missing tells what has not come yet.
func (s *sink) missing(expected []uint64, keys []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		for i, key := range keys {
			if got := st.part.from(s.next[st][key]); got < expected[i] {
				return fmt.Errorf("%s (mark %d): %s has come to %d of %d", st.topic, st.mark, key, got, expected[i])
			}
		}
	}
	return nil
}

// found returns how often the sequences were violated, and the first cases.
func (s *sink) found() (int, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, slices.Clone(s.violations)
}
