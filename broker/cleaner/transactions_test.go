package cleaner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/vfs"
)

// within makes a batch one of a producer's transaction.
func within(id int64, sequence int32) func(w *record.Builder) {
	return func(w *record.Builder) { w.SetProducer(id, 0, sequence, true) }
}

func mark(t fataler, l *commitlog.Log, id int64, commit bool) {
	t.Helper()
	if _, err := l.Append(record.AppendMarker(nil, id, 0, record.Marker{Commit: commit}, time.Now().UnixMilli()), 0); err != nil {
		t.Fatal(err)
	}
}

// withoutMarkers is content without the markers, whose keys are not text.
func withoutMarkers(t fataler, l *commitlog.Log) string {
	var out []string
	for _, e := range content(t, l) {
		if !strings.Contains(e, "\x00") {
			out = append(out, e)
		}
	}
	return strings.Join(out, " ")
}

func TestCompactionOfTransactions(t *testing.T) {
	l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinDirtyRatio: 0.01})
	c := New(Options{})
	step := func(what, want string) {
		t.Helper()
		roll(t, l)
		clean(t, c, l)
		if got := withoutMarkers(t, l); got != want {
			t.Fatalf("%s: log holds %s, want %s", what, got, want)
		}
	}
	pairs(t, l, nil, "a=1", "b=1")
	pairs(t, l, within(7, 0), "a=2")
	pairs(t, l, nil, "b=2")
	step("open transaction", "0:a=1 1:b=1 2:a=2 3:b=2")
	mark(t, l, 7, true)
	pairs(t, l, within(7, 1), "a=9", "c=9")
	step("committed, and the next one open", "2:a=2 3:b=2 5:a=9 6:c=9")
	mark(t, l, 7, false)
	pairs(t, l, within(7, 3), "c=3")
	pairs(t, l, within(7, 4), "d=3")
	mark(t, l, 7, true)
	step("aborted: its records are gone and have replaced nothing", "2:a=2 3:b=2 8:c=3 9:d=3")
	pairs(t, l, nil, "c=4", "d=4")
	step("the producer's last batch is emptied, for its sequence", "2:a=2 3:b=2 9-9 11:c=4 12:d=4")
	l.Close(t.Context())
}

// A marker stays while anything of its transaction does, then as long as a tombstone; nothing new has to be written for it to go.
func TestMarkersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, vfs.NewMem(), commitlog.Config{Compact: true, MinDirtyRatio: 1e-9, TombstoneAge: time.Hour})
		c := New(Options{})
		var last Result
		round := func(markers int, want string) {
			t.Helper()
			last = clean(t, c, l)
			if all := content(t, l); len(all)-len(strings.Fields(withoutMarkers(t, l))) != markers || withoutMarkers(t, l) != want {
				t.Fatalf("log holds %q, want %s and %d markers", all, want, markers)
			}
		}
		pairs(t, l, within(7, 0), "a=1", "b=1")
		mark(t, l, 7, true)
		pairs(t, l, within(7, 2), "x=1")
		mark(t, l, 7, false)
		roll(t, l)
		round(2, "0:a=1 1:b=1 3-3") // what was aborted has gone, but for the producer's last batch
		if last.Compacted != 5 || !slices.Equal(last.AbortMarkers, []int64{4}) {
			t.Fatalf("%+v", last)
		}
		pairs(t, l, within(7, 3), "a=2")
		mark(t, l, 7, true)
		pairs(t, l, nil, "b=3")
		roll(t, l)
		round(3, "5:a=2 7:b=3") // the first two transactions have gone with this round
		time.Sleep(50 * time.Minute)
		round(3, "5:a=2 7:b=3")
		time.Sleep(20 * time.Minute)
		round(1, "5:a=2 7:b=3")
		if last.Compacted != 8 || len(last.AbortMarkers) != 0 {
			t.Fatalf("%+v", last)
		}
		if round(1, "5:a=2 7:b=3"); last.CompactedBytes != 0 {
			t.Fatalf("nothing was due, yet %+v", last)
		}
		if end := l.Bounds().End; end != 8 {
			t.Errorf("the log ends at %d", end)
		}
		l.Close(t.Context())
	})
}

// historian writes transactions and remembers what readers of committed records must find at the end.
type historian struct {
	*rapid.T
	log     *commitlog.Log
	records []written
	open    map[int64]bool
}

type written struct {
	key, value string
	producer   int64 // 0: no transaction
	state      byte  // of the transaction: open, committed, aborted
}

func (h *historian) write(i int) {
	producer := int64(rapid.IntRange(0, 3).Draw(h.T, "producer"))
	var records []string
	for j := range rapid.IntRange(1, 4).Draw(h.T, "records") {
		k, v := fmt.Sprint("k", rapid.IntRange(0, 6).Draw(h.T, "key")), fmt.Sprintf("%d.%d", i, j)
		records = append(records, k+"="+v)
		w := written{k, v, producer, 'c'}
		if producer > 0 {
			w.state = 'o'
		}
		h.records = append(h.records, w)
	}
	if producer == 0 {
		pairs(h.T, h.log, nil, records...)
		return
	}
	h.open[producer] = true
	pairs(h.T, h.log, within(producer, 0), records...)
}

func (h *historian) finish(producer int64) {
	if !h.open[producer] {
		return
	}
	delete(h.open, producer)
	state := byte('a')
	if rapid.Bool().Draw(h.T, "commit") {
		state = 'c'
	}
	mark(h.T, h.log, producer, state == 'c')
	for i := range h.records {
		if r := &h.records[i]; r.producer == producer && r.state == 'o' {
			r.state = state
		}
	}
}

// want is the last committed value of each key.
func (h *historian) want() map[string]string {
	out := map[string]string{}
	for _, r := range h.records {
		if r.state == 'c' {
			out[r.key] = r.value
		}
	}
	return out
}

// got is what a reader of committed records finds in the log.
func (h *historian) got() map[string]string {
	type found struct {
		key, value string
		aborted    *bool
	}
	var all []found
	fate := map[int64]*bool{}
	b := h.log.Bounds()
	err := h.log.Scan(context.Background(), b.Start, b.End, func(batch []byte) error {
		head, err := record.ParseHeader(batch)
		if err != nil {
			return err
		}
		if m, ok, err := record.ParseMarker(batch); head.Control() && ok && err == nil {
			if fate[head.ProducerID] != nil {
				*fate[head.ProducerID] = !m.Commit
			}
			delete(fate, head.ProducerID)
			return nil
		}
		aborted := new(bool)
		if head.Transactional() {
			if fate[head.ProducerID] == nil {
				fate[head.ProducerID] = aborted
			}
			aborted = fate[head.ProducerID]
		}
		it, _, err := record.Iterate(batch, nil, 1<<20)
		for r := (record.Record{}); it.Next(&r); {
			all = append(all, found{string(r.Key), string(r.Value), aborted})
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range all {
		if !*f.aborted {
			out[f.key] = f.value
		}
	}
	return out
}

func TestTransactionsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		config := commitlog.Config{Compact: true, MinDirtyRatio: 0.01, SegmentBytes: 500,
			TombstoneAge: time.Duration(rapid.SampledFrom([]time.Duration{1, time.Hour}).Draw(t, "age"))} // of markers, too
		h := &historian{T: t, log: open(t, mem, config), open: map[int64]bool{}}
		c := New(Options{MaxKeys: rapid.IntRange(1, 20).Draw(t, "max keys")})
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				clean(t, c, h.log)
			case 2:
				roll(t, h.log)
			case 3, 4:
				h.finish(int64(rapid.IntRange(1, 3).Draw(t, "of")))
			default:
				h.write(i)
			}
		}
		for producer := range int64(4) {
			h.finish(producer)
		}
		if got, want := fmt.Sprint(h.got()), fmt.Sprint(h.want()); got != want {
			t.Fatalf("before the last cleaning the log says %s, want %s", got, want)
		}
		roll(t, h.log)
		for range 5 {
			clean(t, c, h.log)
		}
		if got, want := fmt.Sprint(h.got()), fmt.Sprint(h.want()); got != want {
			t.Fatalf("log says %s, want %s", got, want)
		}
		h.log.Close(context.Background())
	})
}
