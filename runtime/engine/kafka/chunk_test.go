package kafka

import (
	"errors"
	"slices"
	"testing"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/runtime/engine/batch"
)

// logOf puts batches one behind the other.
type logOf struct {
	bytes []byte
	next  int64
}

// add appends a batch with one record, of a transaction if the producer is not negative.
func (l *logOf) add(value string, producer int64) {
	var b record.Builder
	b.Reset(nil, record.None)
	if producer >= 0 {
		b.SetProducer(producer, 0, 0, true)
	}
	b.Append(1, nil, []byte(value), nil, 0)
	l.put(b.Finish())
}

func (l *logOf) mark(producer int64, commit bool) {
	l.put(record.AppendMarker(nil, producer, 0, record.Marker{Commit: commit}, 1))
}

func (l *logOf) put(batch []byte) {
	record.PutBase(batch, l.next, 0)
	l.bytes = append(l.bytes, batch...)
	l.next++
}

// valuesOf are the values of a chunk's records from offset on.
func valuesOf(t *testing.T, c chunk, from int64) (values []string) {
	t.Helper()
	var f batch.Fetch
	f.Begin(from)
	for i := range c.batches {
		if err := f.Append(c.batches[i].bytes, &c.batches[i].header); err != nil {
			t.Fatal(err)
		}
	}
	for i := range f.Len() {
		values = append(values, string(f.Record(i).Value))
	}
	return values
}

func TestSplit(t *testing.T) {
	var l logOf
	l.add("0 plain", -1)
	l.add("1 aborted by 7", 7)
	l.add("2 committed by 8", 8)
	l.mark(8, true)  // 3
	l.mark(7, false) // 4
	l.add("5 committed by 7", 7)
	l.mark(7, true) // 6
	end := l.next
	aborted := []abortion{{producer: 7, first: 1}}
	for _, test := range []struct {
		name    string
		bytes   []byte
		from    int64
		aborted []abortion
		want    []string
		next    int64
	}{
		{"everything", l.bytes, 0, aborted, []string{"0 plain", "2 committed by 8", "5 committed by 7"}, end},
		{"nothing", nil, 3, nil, nil, 3},
		{"from within", l.bytes, 2, aborted, []string{"2 committed by 8", "5 committed by 7"}, end},
		{"only markers are left", l.bytes, 6, aborted, nil, end},
		{"the last batch is cut short", l.bytes[:len(l.bytes)-1], 0, aborted, []string{"0 plain", "2 committed by 8", "5 committed by 7"}, end - 1},
		{"a header is cut short", l.bytes[:len(l.bytes)-70], 0, aborted, []string{"0 plain", "2 committed by 8", "5 committed by 7"}, end - 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := split(test.bytes, test.from, test.aborted)
			if err != nil {
				t.Fatal(err)
			}
			if got := valuesOf(t, c, test.from); !slices.Equal(got, test.want) || c.next != test.next {
				t.Errorf("records are %q up to %d, want %q up to %d", got, c.next, test.want, test.next)
			}
		})
	}
}

// TestSplitDamaged: what is before the damage is kept, and the damage is told.
func TestSplitDamaged(t *testing.T) {
	var l logOf
	l.add("good", -1)
	good := len(l.bytes)
	l.add("bad", -1)
	l.bytes[good+16] = 9 // magic
	c, err := split(l.bytes, 0, nil)
	if !errors.Is(err, record.ErrCorrupt) || c.next != 1 || len(c.batches) != 1 {
		t.Errorf("%d batches up to %d, error %v", len(c.batches), c.next, err)
	}
}

func FuzzSplit(f *testing.F) {
	var l logOf
	l.add("value", 3)
	l.mark(3, false)
	l.add("more", -1)
	f.Add(l.bytes, int64(0), int64(3))
	f.Add(l.bytes[:100], int64(1), int64(-1))
	f.Fuzz(func(t *testing.T, bytes []byte, from, producer int64) {
		c, err := split(bytes, from, []abortion{{producer: producer}})
		if c.next < from {
			t.Errorf("the position went back from %d to %d", from, c.next)
		}
		if err == nil && len(bytes) > 0 && c.next == from && len(c.batches) > 0 {
			t.Error("records without progress")
		}
	})
}
