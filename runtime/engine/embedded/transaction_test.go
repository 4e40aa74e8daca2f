package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/sdk/abi"
)

// A session is shown no record of a transaction that is open or was aborted.
func TestSessionReadsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		l, s, m := oneSession(t, vfs.NewMem(), engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		p, err := l.topics.Partition("in", 0)
		if err != nil {
			t.Fatal(err)
		}
		write := func(producer int64, value string) {
			var b record.Builder
			b.Reset(nil, record.None)
			b.Append(time.Now().UnixMilli(), nil, []byte(value), nil, 0)
			b.SetProducer(producer, 0, 0, producer >= 0)
			from := topic.FromTransaction
			if producer < 0 {
				from = topic.FromClient
			}
			if _, err := p.Append(ctx, b.Finish(), from); err != nil {
				t.Fatal(err)
			}
		}
		end := func(producer int64, commit bool) {
			if _, err := p.Append(ctx, record.AppendMarker(nil, producer, 0, record.Marker{Commit: commit}, 0), topic.FromBroker); err != nil {
				t.Fatal(err)
			}
		}
		write(-1, "plain")
		write(1, "aborted")
		write(2, "committed")
		write(-1, "behind")
		seen := func() (values []string) {
			for {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				f, err := s.Poll(ctx, 1<<20)
				cancel()
				if errors.Is(err, context.DeadlineExceeded) {
					return values
				}
				if err != nil {
					t.Fatal(err)
				}
				for i := range f.Len() {
					values = append(values, string(f.Record(i).Value))
				}
			}
		}
		for _, c := range []struct {
			do   func()
			want []string
		}{
			{func() {}, []string{"plain"}},
			{func() { end(2, true) }, nil},
			{func() { end(1, false) }, []string{"committed", "behind"}},
		} {
			c.do()
			if got := seen(); len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
				t.Errorf("seen %q, want %q", got, c.want)
			}
		}
	})
}

// TestTransactionTimesOut: a batch that takes too long is aborted, said to be so, and can be done again.
func TestTransactionTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		l, s, m := oneSession(t, vfs.NewMem(), engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		s.(*session).outputs.ahead = 100
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
		produce := func(values ...string) error {
			for _, v := range values {
				if err := s.Produce(ctx, &outputList{{Key: keyFor(0), Value: bytes.Repeat([]byte(v), 100)}}); err != nil {
					return err
				}
			}
			return nil
		}
		for _, late := range []func() error{
			func() error { return s.Commit(ctx, 1) },
			func() error { return produce("c") },
		} {
			if err := errors.Join(s.Begin([]string{"out"}), produce("a", "b")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Minute)
			if err := late(); !errors.Is(err, engine.ErrAborted) {
				t.Errorf("the answer after six minutes is %v", err)
			}
			if err := s.Abort(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(s.Begin([]string{"out"}), produce("d"), s.Commit(ctx, 1)); err != nil {
			t.Fatal(err)
		}
		got, err := valuesIn(l, "out")
		if err != nil || len(got) != 1 || got[0][0] != 'd' {
			t.Errorf("the output holds %q, %v", got, err)
		}
	})
}

// TestAbortWithoutSpace: what cannot be aborted now is aborted before anything else is written; nothing of it is committed.
func TestAbortWithoutSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if full.Load() && op.Kind == vfs.OpWrite {
				return vfs.ErrNoSpace
			}
			return nil
		}}
		ctx := context.Background()
		l, s, m := oneSession(t, fs, engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		s.(*session).outputs.ahead = 100
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
		if _, err := s.Poll(ctx, 1000); err != nil {
			t.Fatal(err)
		}
		dropped := make(outputList, 10)
		for i := range dropped {
			dropped[i] = abi.Output{Key: keyFor(i % 2), Value: []byte("dropped, and long enough to be written ahead")}
		}
		if err := errors.Join(s.Begin([]string{"out"}), s.Produce(ctx, &dropped)); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		if err := s.Commit(ctx, 1); !errors.Is(err, engine.ErrStorage) {
			t.Fatalf("commit on a full disk: %v", err)
		}
		if err := s.Abort(ctx); !errors.Is(err, engine.ErrStorage) {
			t.Fatalf("abort on a full disk: %v", err)
		}
		if at := s.Position(); at != 0 {
			t.Errorf("after the abort the session reads on at %d", at)
		}
		if err := s.Begin([]string{"out"}); !errors.Is(err, engine.ErrStorage) {
			t.Fatalf("begin before the abort: %v", err)
		}
		if err := s.Commit(ctx, 1); !errors.Is(err, engine.ErrStorage) {
			t.Fatalf("commit of an offset before the abort: %v", err)
		}
		full.Store(false)
		if err := errors.Join(s.Begin([]string{"out"}), s.Produce(ctx, &outputList{{Key: keyFor(0), Value: []byte("kept")}}), s.Commit(ctx, 1)); err != nil {
			t.Fatal(err)
		}
		got, err := valuesIn(l, "out")
		if err != nil || !slices.Equal(got, []string{"kept"}) {
			t.Errorf("the output holds %q, %v", got, err)
		}
	})
}

// TestAbortBehindAHalfEndedCommit: a transaction whose commit is decided counts, though the group does
// not know of it yet; who goes back meanwhile must not read its records again.
func TestAbortBehindAHalfEndedCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var decided, armed atomic.Bool
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			if !armed.Load() || op.Kind != vfs.OpWrite {
				return nil
			}
			name, _, _ := strings.Cut(filepath.Base(filepath.Dir(op.Path)), "-")
			if name == txn.StateTopic {
				decided.Store(true)
			}
			if name == group.OffsetsTopic && decided.Load() {
				return vfs.ErrNoSpace
			}
			return nil
		}}
		ctx := context.Background()
		l, s, m := oneSession(t, fs, engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		do := func(value string, next int64) error {
			return errors.Join(s.Begin([]string{"out"}), s.Produce(ctx, &outputList{{Key: keyFor(0), Value: []byte(value)}}), s.Commit(ctx, next))
		}
		l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}, {Timestamp: 1, Value: []byte("w")}})
		armed.Store(true)
		if err := do("first", 1); err != nil {
			t.Fatal(err)
		}
		if err := do("second", 2); !errors.Is(err, engine.ErrStorage) {
			t.Fatalf("commit before the last one is ended: %v", err)
		}
		if err := s.Abort(ctx); !errors.Is(err, engine.ErrStorage) {
			t.Errorf("abort while nobody can read the committed offset: %v; the session reads on at %d", err, s.Position())
		}
		armed.Store(false)
		time.Sleep(5 * time.Second)
		if err := s.Abort(ctx); err != nil || s.Position() != 1 {
			t.Fatalf("abort: %v, the session reads on at %d", err, s.Position())
		}
		if err := do("second", 2); err != nil {
			t.Fatal(err)
		}
		if got, err := valuesIn(l, "out"); err != nil || !slices.Equal(got, []string{"first", "second"}) {
			t.Errorf("the output holds %q, %v", got, err)
		}
	})
}

// TestWorkOfACommit: a transaction to one partition is five writes (outputs, offset, decision, two markers),
// and the disk is waited for in two rounds: input, outputs and offset together, then the decision.
func TestWorkOfACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ops []string
		fs := &vfs.Fault{FS: vfs.NewMem(), Decide: func(op vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if (op.Kind == vfs.OpWrite || op.Kind == vfs.OpSync) && filepath.Ext(op.Path) == ".log" {
				name, _, _ := strings.Cut(filepath.Base(filepath.Dir(op.Path)), "-")
				ops = append(ops, fmt.Sprint(op.Kind, " ", name))
			}
			return nil
		}}
		ctx := context.Background()
		l, s, m := oneSession(t, fs, engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		want := []string{"sync __consumer_offsets", "sync __transaction_state", "sync in", "sync out",
			"write __consumer_offsets", "write __consumer_offsets", "write __transaction_state", "write in", "write out", "write out"}
		for next := range int64(5) {
			time.Sleep(time.Second)
			mu.Lock()
			ops = nil
			mu.Unlock()
			l.produce(t, "in", 0, "none", []engine.Record{{Timestamp: 1, Value: []byte("v")}})
			err := errors.Join(s.Begin([]string{"out"}), s.Produce(ctx, &outputList{{Timestamp: time.Now().UnixMilli(), Key: keyFor(0), Value: []byte("a")}}), s.Commit(ctx, next+1))
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			if slices.Sort(ops); next > 0 && !slices.Equal(ops, want) {
				t.Errorf("a transaction does %q, want %q", ops, want)
			}
			mu.Unlock()
		}
	})
}
