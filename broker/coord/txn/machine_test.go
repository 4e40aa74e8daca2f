package txn

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"
)

// step is what one producer does to a transactional id: "init", "add" (a partition;
// "add2" with V2), "write", "commit1", "abort1", "commit2", "abort2" with a version,
// or what happens to it: "timeout", "done" (all markers are written).
type step struct {
	do   string
	p    Producer // who says it is
	fail error
	want string // what is so afterwards: state producer/epoch
}

func p(id int64, epoch int16) Producer { return Producer{id, epoch} }

// apply does what the coordinator does, without a journal. Producer ids are given from *ids on.
func apply(m *metadata, s step, ids *int64) (answer Producer, err error) {
	now := time.UnixMilli(1)
	give := func() int64 { *ids++; return *ids }
	end := func(commit bool, v Version) (Producer, error) {
		done, err := m.end(s.p, commit, v)
		if err != nil || done {
			return m.producer, err
		}
		next := int64(-1)
		if v == V2 && m.exhausted() {
			next = give()
		}
		*m = m.prepare(commit, v == V2, next, now)
		if m.next.ID >= 0 {
			return m.next, nil
		}
		return m.producer, nil
	}
	switch s.do {
	case "init":
		what, err := m.takeOver(s.p)
		switch {
		case err != nil:
			return NoProducer, err
		case what == abortFirst:
			*m = m.prepare(false, true, -1, now)
		case what == newID:
			*m = m.initialize(give(), s.p, time.Minute, now)
		case what == proceed:
			*m = m.initialize(-1, s.p, time.Minute, now)
		}
		return m.producer, nil
	case "add", "add2":
		v := V1
		if s.do == "add2" {
			v = V2
		}
		next, _, err := m.add(s.p, []Partition{{Topic: "t", Partition: 0}}, v, now)
		if err == nil {
			*m = next
		}
		return m.producer, err
	case "write":
		return m.producer, m.holds(s.p, Partition{Topic: "t", Partition: 0})
	case "commit1", "commit2", "abort1", "abort2":
		return end(s.do[0] == 'c', map[byte]Version{'1': V1, '2': V2}[s.do[len(s.do)-1]])
	case "timeout":
		*m = m.prepare(false, true, -1, now)
		return m.producer, nil
	case "done":
		*m = m.complete(now)
		return m.producer, nil
	}
	return NoProducer, errors.New("unknown step " + s.do)
}

func TestMachine(t *testing.T) {
	top := int16(lastEpoch)
	for name, story := range map[string][]step{
		"first transaction, V1": {
			{"init", NoProducer, nil, "Empty 1/0"},
			{"write", p(1, 0), ErrNotInTransaction, "Empty 1/0"},
			{"commit1", p(1, 0), ErrInvalidState, "Empty 1/0"},
			{"abort1", p(1, 0), ErrInvalidState, "Empty 1/0"},
			{"add", p(1, 0), nil, "Ongoing 1/0"},
			{"write", p(1, 0), nil, "Ongoing 1/0"},
			{"add", p(1, 0), nil, "Ongoing 1/0"},
			{"commit1", p(1, 0), nil, "PrepareCommit 1/0"},
			{"commit1", p(1, 0), ErrConcurrent, "PrepareCommit 1/0"},
			{"abort1", p(1, 0), ErrInvalidState, "PrepareCommit 1/0"},
			{"add", p(1, 0), ErrConcurrent, "PrepareCommit 1/0"},
			{"write", p(1, 0), ErrConcurrent, "PrepareCommit 1/0"},
			{"init", NoProducer, ErrConcurrent, "PrepareCommit 1/0"},
			{"done", NoProducer, nil, "CompleteCommit 1/0"},
			{"commit1", p(1, 0), nil, "CompleteCommit 1/0"}, // repeated
			{"abort1", p(1, 0), ErrInvalidState, "CompleteCommit 1/0"},
			{"write", p(1, 0), ErrNotInTransaction, "CompleteCommit 1/0"},
			{"add", p(1, 0), nil, "Ongoing 1/0"},
			{"abort1", p(1, 0), nil, "PrepareAbort 1/0"},
			{"done", NoProducer, nil, "CompleteAbort 1/0"},
			{"abort1", p(1, 0), nil, "CompleteAbort 1/0"},
			{"commit1", p(1, 0), ErrInvalidState, "CompleteAbort 1/0"},
		},
		"first transactions, V2": {
			{"init", NoProducer, nil, "Empty 1/0"},
			{"commit2", p(1, 0), ErrInvalidState, "Empty 1/0"},
			{"add2", p(1, 0), nil, "Ongoing 1/0"},
			{"commit2", p(1, 0), nil, "PrepareCommit 1/1"},
			{"commit2", p(1, 0), ErrConcurrent, "PrepareCommit 1/1"},
			{"abort2", p(1, 0), ErrInvalidState, "PrepareCommit 1/1"},
			{"commit2", p(1, 1), ErrFenced, "PrepareCommit 1/1"},
			{"done", NoProducer, nil, "CompleteCommit 1/1"},
			{"commit2", p(1, 0), nil, "CompleteCommit 1/1"}, // repeated
			{"abort2", p(1, 0), ErrInvalidState, "CompleteCommit 1/1"},
			{"commit2", p(1, 1), ErrInvalidState, "CompleteCommit 1/1"}, // the next one has written nothing
			{"add2", p(1, 0), ErrFenced, "CompleteCommit 1/1"},          // a late write of the last one
			{"add2", p(1, 1), nil, "Ongoing 1/1"},
			{"commit2", p(1, 0), ErrFenced, "Ongoing 1/1"}, // a late commit of the last one
			{"abort2", p(1, 1), nil, "PrepareAbort 1/2"},
			{"done", NoProducer, nil, "CompleteAbort 1/2"},
			{"abort2", p(1, 1), nil, "CompleteAbort 1/2"},
			{"commit2", p(1, 1), ErrInvalidState, "CompleteAbort 1/2"},
		},
		"V2 aborts what it is not sure to have begun": {
			{"init", NoProducer, nil, "Empty 1/0"},
			{"abort2", p(1, 0), nil, "PrepareAbort 1/1"},
			{"done", NoProducer, nil, "CompleteAbort 1/1"},
			{"abort2", p(1, 1), nil, "PrepareAbort 1/2"},
			{"done", NoProducer, nil, "CompleteAbort 1/2"},
		},
		"another producer takes over": {
			{"init", NoProducer, nil, "Empty 1/0"},
			{"add", p(1, 0), nil, "Ongoing 1/0"},
			{"init", NoProducer, nil, "PrepareAbort 1/1"}, // the coordinator goes on once it is done
			{"done", NoProducer, nil, "CompleteAbort 1/1"},
			{"init", NoProducer, nil, "Empty 1/2"},
			{"write", p(1, 0), ErrFenced, "Empty 1/2"},
			{"add", p(1, 0), ErrFenced, "Empty 1/2"},
			{"add", p(9, 2), ErrUnknownProducer, "Empty 1/2"},
			{"commit1", p(1, 0), ErrFenced, "Empty 1/2"},
			{"commit2", p(1, 0), ErrFenced, "Empty 1/2"},
			{"commit1", p(9, 2), ErrUnknownProducer, "Empty 1/2"},
			{"commit2", p(9, 2), ErrUnknownProducer, "Empty 1/2"},
			{"init", p(1, 0), ErrFenced, "Empty 1/2"},
			{"init", p(9, 2), ErrFenced, "Empty 1/2"},
		},
		"a producer goes on with the next epoch": {
			{"init", NoProducer, nil, "Empty 1/0"},
			{"init", p(1, 0), nil, "Empty 1/1"},
			{"init", p(1, 0), nil, "Empty 1/1"}, // repeated
			{"init", p(1, 1), nil, "Empty 1/2"},
			{"init", p(1, 0), ErrFenced, "Empty 1/2"},
			{"add", p(1, 2), nil, "Ongoing 1/2"},
			{"init", p(1, 1), ErrFenced, "Ongoing 1/2"},
			{"init", p(1, 2), nil, "PrepareAbort 1/3"},
		},
		"an unknown id with a producer that remembers": {
			{"init", p(77, 3), nil, "Empty 1/0"},
		},
		"timeout": {
			{"init", NoProducer, nil, "Empty 1/0"},
			{"add2", p(1, 0), nil, "Ongoing 1/0"},
			{"timeout", NoProducer, nil, "PrepareAbort 1/1"},
			{"done", NoProducer, nil, "CompleteAbort 1/1"},
			{"write", p(1, 0), ErrFenced, "CompleteAbort 1/1"},
			{"commit2", p(1, 0), ErrInvalidState, "CompleteAbort 1/1"},
			{"commit1", p(1, 0), ErrFenced, "CompleteAbort 1/1"},
			{"abort2", p(1, 0), nil, "CompleteAbort 1/1"}, // and goes on with epoch 1
			{"add2", p(1, 1), nil, "Ongoing 1/1"},
		},
		"epochs are used up, V2": {
			{"set", p(1, top-1), nil, fmt.Sprint("Empty 1/", top-1)},
			{"add2", p(1, top-1), nil, fmt.Sprint("Ongoing 1/", top-1)},
			{"commit2", p(1, top-1), nil, fmt.Sprint("PrepareCommit 1/", top)},
			{"done", NoProducer, nil, fmt.Sprint("CompleteCommit 1/", top)},
			{"add2", p(1, top), nil, fmt.Sprint("Ongoing 1/", top)},
			{"commit2", p(1, top), nil, fmt.Sprint("PrepareCommit 1/", math.MaxInt16)},
			{"done", NoProducer, nil, "CompleteCommit 100/0"},
			{"commit2", p(1, top), nil, "CompleteCommit 100/0"}, // repeated
			{"init", p(1, top), nil, "CompleteCommit 100/0"},    // asks, for it has not heard
			{"commit2", p(1, top-1), ErrUnknownProducer, "CompleteCommit 100/0"},
			{"add2", p(100, 0), nil, "Ongoing 100/0"},
			{"init", p(1, top), ErrFenced, "Ongoing 100/0"},
			{"commit2", p(100, 0), nil, "PrepareCommit 100/1"},
			{"done", NoProducer, nil, "CompleteCommit 100/1"},
			{"init", p(1, top), ErrFenced, "CompleteCommit 100/1"},
		},
		"epochs are used up, V1": {
			{"set", p(1, top-1), nil, fmt.Sprint("Empty 1/", top-1)},
			{"init", NoProducer, nil, fmt.Sprint("Empty 1/", top)},
			{"init", NoProducer, nil, "Empty 100/0"},
		},
		"the last epoch times out": {
			{"set", p(1, top), nil, fmt.Sprint("Empty 1/", top)},
			{"add2", p(1, top), nil, fmt.Sprint("Ongoing 1/", top)},
			{"timeout", NoProducer, nil, fmt.Sprint("PrepareAbort 1/", math.MaxInt16)},
			{"done", NoProducer, nil, fmt.Sprint("CompleteAbort 1/", math.MaxInt16)},
			{"init", NoProducer, nil, "Empty 100/0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, ids := newMetadata(), int64(0)
			for i, s := range story {
				if s.do == "set" {
					m, ids = m.initialize(s.p.ID, NoProducer, time.Minute, time.UnixMilli(1)), 99
					m.producer.Epoch = s.p.Epoch
					continue
				}
				_, err := apply(&m, s, &ids)
				got := fmt.Sprintf("%v %d/%d", m.state, m.producer.ID, m.producer.Epoch)
				if !errors.Is(err, s.fail) || (err == nil) != (s.fail == nil) || got != s.want {
					t.Fatalf("step %d %s %v: %s, %v; want %s, %v", i, s.do, s.p, got, err, s.want, s.fail)
				}
				if id, back, err := decode(encode("id", &m)); err != nil || id != "id" || back.state != m.state || back.producer != m.producer ||
					back.next != m.next || back.previousID != m.previousID || len(back.partitions) != len(m.partitions) || back.timeout != m.timeout {
					t.Fatalf("step %d: stored as %+v, was %+v: %v", i, back, m, err)
				}
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	m := newMetadata()
	m = m.initialize(5, NoProducer, time.Second, time.UnixMilli(9))
	key, value := encode("id", &m)
	if _, m, err := decode(key, nil); m != nil || err != nil {
		t.Errorf("tombstone: %+v, %v", m, err)
	}
	for name, kv := range map[string][2][]byte{
		"no key":        {nil, value},
		"short key":     {key[:3], value},
		"key version":   {append([]byte{0, 9}, key[2:]...), value},
		"empty value":   {key, {}},
		"short value":   {key, value[:9]},
		"value version": {key, append([]byte{0, 9}, value[2:]...)},
		"state":         {key, append(append([]byte{}, value[:16]...), append([]byte{99}, value[17:]...)...)},
	} {
		if _, _, err := decode(kv[0], kv[1]); !errors.Is(err, errForeignRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// allocated returns the bytes that f allocates; what other goroutines do meanwhile counts too.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

func FuzzDecode(f *testing.F) {
	add := func(key, value []byte) { f.Add(key, value) }
	m := newMetadata()
	m = m.initialize(5, NoProducer, time.Second, time.UnixMilli(9))
	add(encode("id", &m))
	m, _, _ = m.add(m.producer, []Partition{{Topic: "a", Partition: 1}, {Topic: "a", Partition: 2}, {Topic: "b", Partition: 0}}, V2, time.UnixMilli(10))
	add(encode("id", &m))
	m = m.prepare(true, true, 77, time.UnixMilli(11))
	add(encode("id", &m))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var id string
		var m *metadata
		var err error
		// A partition is 4 bytes of a record, and an entry of a map that grows.
		if took, most := allocated(func() { id, m, err = decode(key, value) }), 64*(len(key)+len(value))+1<<20; took > most {
			t.Fatalf("decoding takes %d bytes, want at most %d", took, most)
		}
		if err != nil || m == nil {
			return
		}
		again, back, err := decode(encode(id, m))
		if err != nil || again != id || back.producer != m.producer || back.state != m.state || len(back.partitions) != len(m.partitions) {
			t.Errorf("%q %+v, stored and read %q %+v, %v", id, m, again, back, err)
		}
	})
}
