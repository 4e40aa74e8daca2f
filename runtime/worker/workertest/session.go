package workertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

type session struct {
	member   *member
	tp       engine.TopicPartition
	done     chan struct{}
	told     bool // done is closed
	ended    bool
	position int64
	open     bool
	outputs  []string
	pending  []pending
}

type pending struct {
	topic     string
	partition int
	record    engine.Record
}

func newSession(m *member, tp engine.TopicPartition, position int64) *session {
	return &session{member: m, tp: tp, done: make(chan struct{}), position: position}
}

func (s *session) log() *Log { return s.member.log }

func (s *session) takeAway() {
	if !s.told {
		s.told = true
		close(s.done)
	}
}

func (s *session) end() {
	s.takeAway()
	s.ended = true
}

// Partition implements engine.Session.
func (s *session) Partition() engine.TopicPartition { return s.tp }

// Input implements engine.Session.
func (s *session) Input() int {
	for i, input := range s.member.config.Inputs {
		if input == s.tp.Topic {
			return i
		}
	}
	return -1
}

// Done implements engine.Session.
func (s *session) Done() <-chan struct{} { return s.done }

// Poll implements engine.Session.
func (s *session) Poll(ctx context.Context, maxBytes int) (engine.Fetch, error) {
	for {
		l := s.log()
		l.mu.Lock()
		changed := l.changed
		f, err := s.fetch(maxBytes)
		l.mu.Unlock()
		if err != nil || f != nil {
			return f, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *session) fetch(maxBytes int) (engine.Fetch, error) {
	if s.ended {
		return nil, engine.ErrFenced
	}
	t := s.log().topics[s.tp.Topic]
	if t == nil {
		return nil, fmt.Errorf("%w: %s", engine.ErrUnknownTopic, s.tp.Topic)
	}
	records := t.partitions[s.tp.Partition]
	if s.position >= int64(len(records)) {
		return nil, nil
	}
	f := &fetch{}
	for size := 0; s.position < int64(len(records)) && size < maxBytes; s.position++ {
		r := records[s.position]
		f.records = append(f.records, r)
		size += len(r.Key) + len(r.Value) + 16
	}
	f.next = s.position
	return f, nil
}

// Ready implements engine.Session.
func (s *session) Ready() bool {
	l := s.log()
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[s.tp.Topic]
	return !s.ended && t != nil && s.position < int64(len(t.partitions[s.tp.Partition]))
}

// Position implements engine.Session.
func (s *session) Position() int64 {
	s.log().mu.Lock()
	defer s.log().mu.Unlock()
	return s.position
}

// Begin implements engine.Session.
func (s *session) Begin(outputs []string) error {
	s.log().mu.Lock()
	defer s.log().mu.Unlock()
	if s.ended {
		return engine.ErrFenced
	}
	if s.open {
		return errors.New("a batch is open")
	}
	s.open, s.outputs = true, outputs
	return nil
}

// Produce implements engine.Session.
func (s *session) Produce(_ context.Context, outputs abi.Outputs) error {
	s.log().mu.Lock()
	defer s.log().mu.Unlock()
	var o abi.Output
	for outputs.Next(&o) {
		r := engine.Record{Timestamp: o.Timestamp, Key: o.Key, Value: o.Value}
		for rest := o.Headers; ; {
			name, value, tail, ok := abi.NextHeader(rest)
			if !ok {
				break
			}
			r.Headers, rest = append(r.Headers, engine.Header{Name: string(name), Value: value}), tail
		}
		if err := s.produce(s.outputs[o.Index], o.Input, r); err != nil {
			return err
		}
	}
	return nil
}

// ProduceTo implements engine.Session.
func (s *session) ProduceTo(_ context.Context, topic string, r engine.Record) error {
	s.log().mu.Lock()
	defer s.log().mu.Unlock()
	return s.produce(topic, -1, r)
}

func (s *session) produce(name string, input int, r engine.Record) error {
	if s.ended {
		return engine.ErrFenced
	}
	if !s.open {
		return errors.New("no batch is open")
	}
	t := s.log().topics[name]
	if t == nil {
		return &engine.OutputError{Input: input, Topic: name, Detail: "it was deleted", Err: engine.ErrUnknownTopic}
	}
	if err := t.check(name, input, r); err != nil {
		return err
	}
	r.Key, r.Value = cloneBytes(r.Key), cloneBytes(r.Value)
	s.pending = append(s.pending, pending{name, t.partitionOf(r.Key, s.tp.Partition), r})
	return nil
}

// Commit implements engine.Session.
func (s *session) Commit(_ context.Context, next int64) error {
	l := s.log()
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.ended {
		return engine.ErrFenced
	}
	if err := l.failed("commit", s.tp.Topic); err != nil {
		return err
	}
	for _, p := range s.pending {
		l.topics[p.topic].add(p.partition, p.record)
	}
	s.pending, s.open = nil, false
	s.member.group.committed[s.tp] = next
	l.signal()
	return nil
}

// Abort implements engine.Session.
func (s *session) Abort(context.Context) error {
	s.log().mu.Lock()
	defer s.log().mu.Unlock()
	if s.ended {
		return engine.ErrFenced
	}
	if err := s.log().failed("abort", s.tp.Topic); err != nil {
		return err
	}
	s.pending, s.open = nil, false
	s.position = s.member.group.committed[s.tp]
	return nil
}

// SeekTo implements engine.Session.
func (s *session) SeekTo(offset int64) {
	s.log().mu.Lock()
	defer s.log().mu.Unlock()
	s.position = offset
}

// Close implements engine.Session.
func (s *session) Close(context.Context) error {
	l := s.log()
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.ended {
		return nil
	}
	s.end()
	delete(s.member.group.owners, s.tp)
	if len(s.member.group.members) > 0 && !s.member.left {
		s.member.group.rebalance(l)
	}
	return nil
}

func cloneBytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
