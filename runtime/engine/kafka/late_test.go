package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// delayer is a network that breaks the connection of the first request of some kinds, and delivers that request late; or,
// with answered, only its answer is lost, and answered is called.
type delayer struct {
	keys     []kmsg.Key
	answered func()

	mu   sync.Mutex
	late *delayed // the request
	was  []byte
}

type delayed struct {
	net.Conn
	d *delayer
}

func (d *delayer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &delayed{conn, d}, nil
}

func (c *delayed) Write(b []byte) (int, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	switch {
	case c.d.late == c:
		return 0, os.ErrClosed
	case c.d.late == nil && len(b) > 12 && slices.Contains(c.d.keys, kmsg.Key(binary.BigEndian.Uint16(b[4:]))):
		c.d.late, c.d.was = c, slices.Clone(b)
		if c.d.answered != nil {
			if err := c.carryOut(); err != nil {
				return 0, err
			}
			c.d.answered()
		}
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *delayed) Read(b []byte) (int, error) {
	c.d.mu.Lock()
	late := c.d.late == c
	c.d.mu.Unlock()
	if late {
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Read(b)
}

func (c *delayed) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.d.late == c {
		return nil // it is on its way
	}
	return c.Conn.Close()
}

// deliver returns when the broker has answered the late request.
func (d *delayer) deliver(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.late == nil {
		t.Fatal("no request was kept back")
	}
	defer d.late.Conn.Close()
	if err := d.late.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := d.late.carryOut(); err != nil {
		t.Fatal(err)
	}
}

// carryOut delivers the request and takes its answer.
func (c *delayed) carryOut() error {
	if _, err := c.Conn.Write(c.d.was); err != nil {
		return err
	}
	for id := [4]byte{}; id != [4]byte(c.d.was[8:12]); {
		var head [8]byte
		if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
			return err
		}
		id = [4]byte(head[4:])
		if _, err := io.CopyN(io.Discard, c.Conn, int64(binary.BigEndian.Uint32(head[:]))-4); err != nil {
			return err
		}
	}
	return nil
}

// pendingCommit gives group "g" offset 3 of "in", and makes its last member commit offset 8 in a transaction that it does not end.
func pendingCommit(t *testing.T, k *kafka) (in engine.TopicPartition, end func()) {
	t.Helper()
	ctx := t.Context()
	in.Topic = "in"
	w := newWriter(ctx, k.cluster, "last member", k.implicit, time.Minute, 0)
	for _, do := range []func() error{
		func() error { return k.EnsureTopic(ctx, "in", 1, nil) },
		func() error { return k.SetOffsets(ctx, "g", map[engine.TopicPartition]int64{in: 3}) },
		func() error { return w.claim(ctx) },
		func() error { return w.addOffsets(ctx, "g") },
		func() error {
			_, err := w.commitOffsets(ctx, "g", nobody, map[engine.TopicPartition]committed{in: {offset: 8}})
			return err
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return in, func() {
		t.Helper()
		if _, err := w.end(ctx, true); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeepGroupWhileACommitIsPending: what a group has committed before is not committed again, and so put after a commit whose
// transaction is still being ended.
func TestKeepGroupWhileACommitIsPending(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	ctx := t.Context()
	k := openEngine(t, Options{Brokers: []string{address}})
	in, end := pendingCommit(t, k)
	if err := k.KeepGroup(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	end()
	found, err := k.cluster.committedOffsets(ctx, "g", []engine.TopicPartition{in}, time.Minute)
	if err != nil || found[in].offset != 8 {
		t.Errorf("committed are %v, %v; want offset 8", found, err)
	}
}

// TestForgetGroupWhileACommitIsPending: a group does not come back with a commit whose transaction was still being ended.
func TestForgetGroupWhileACommitIsPending(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	k := openEngine(t, Options{Brokers: []string{address}})
	in, end := pendingCommit(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := k.ForgetGroup(ctx, "g"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the group is forgotten while a commit is pending: %v", err)
	}
	end()
	if err := k.ForgetGroup(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if found, err := k.cluster.committedOffsets(t.Context(), "g", []engine.TopicPartition{in}, time.Minute); err != nil || len(found) != 0 {
		t.Errorf("committed are %v, %v; want nothing", found, err)
	}
}

// TestUpdateWithoutAnswer: an update that was written, but whose answer is lost, is not made again, not even if
// somebody else updates the topic before that is known.
func TestUpdateWithoutAnswer(t *testing.T) {
	_, address := brokertest.Serve(t, broker.Options{})
	ctx := t.Context()
	d := &delayer{keys: []kmsg.Key{kmsg.EndTxn}}
	d.answered = func() { outsider{[]string{address}}.takeOver(t, engine.UpdateID("out")) }
	k := openEngine(t, Options{Brokers: []string{address}, Dial: d.dial})
	if err := k.EnsureTopic(ctx, "out", 1, nil); err != nil {
		t.Fatal(err)
	}
	err := k.Update(ctx, "out", func(context.Context) ([]engine.Record, error) {
		return []engine.Record{{Timestamp: 1, Value: []byte("once")}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	_, err = k.ReadAll(ctx, "out", nil, func(int32, engine.Record) error { n++; return nil })
	if err != nil || n != 1 {
		t.Errorf("the update was written %d times, %v", n, err)
	}
}

// TestLateCommit: a commit that arrives after others, because the network kept it back and it was made again, takes
// nothing back.
func TestLateCommit(t *testing.T) {
	for name, early := range map[string]func(*testing.T, *session){
		"of the start": func(*testing.T, *session) {},
		"without outputs": func(t *testing.T, s *session) {
			if err := s.Commit(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := brokertest.Serve(t, broker.Options{})
			ctx := t.Context()
			d := &delayer{}
			if name == "of the start" {
				d.keys = []kmsg.Key{kmsg.OffsetCommit, kmsg.TxnOffsetCommit}
			}
			k := openEngine(t, Options{Brokers: []string{address}, Dial: d.dial})
			if err := k.EnsureTopic(ctx, "out", 1, nil); err != nil {
				t.Fatal(err)
			}
			m, s := openSession(t, k, engine.ExactlyOnce)
			d.mu.Lock()
			d.keys = []kmsg.Key{kmsg.OffsetCommit, kmsg.TxnOffsetCommit}
			d.mu.Unlock()
			early(t, s)
			if err := s.Begin([]string{"out"}); err != nil {
				t.Fatal(err)
			}
			if err := s.Produce(ctx, &outputList{abi.Output{Timestamp: 1, Value: []byte("output")}}); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(ctx, 8); err != nil {
				t.Fatal(err)
			}
			d.deliver(t)
			found, err := m.cluster.committedOffsets(ctx, "g", []engine.TopicPartition{s.tp}, time.Minute)
			if err != nil || found[s.tp].offset != 8 {
				t.Errorf("committed are %v, %v; want offset 8", found, err)
			}
		})
	}
}
