package producer

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/millstream-io/millstream/broker/record"
)

// openTransaction is a transaction that has written to the partition and not ended.
// The list of them is in the order in which they began.
type openTransaction struct {
	producerID int64
	first      int64 // offset of its first batch
}

// Aborted is a transaction that was aborted: the records of its producer from
// First to Last, the offset of its marker, must not be shown to readers of
// committed records.
type Aborted struct {
	ProducerID, First, Last int64

	// stable is the last stable offset behind the marker: a transaction that
	// ended later began there or behind it.
	stable int64
}

// Ended remembers the marker of a transaction that is in the log; h is its
// batch's header. A marker without an open transaction changes the epoch at most.
func (s *State) Ended(h *record.Header, m record.Marker, now time.Time) {
	s.end = h.LastOffset() + 1
	p := s.producer(h, now)
	if !p.open {
		return
	}
	p.open = false
	i := slices.IndexFunc(s.open, func(o openTransaction) bool { return o.producerID == h.ProducerID })
	first := s.open[i].first
	s.open = slices.Delete(s.open, i, i+1)
	if m.Commit {
		return
	}
	stable := s.end
	if first, ok := s.FirstOpen(); ok {
		stable = first
	}
	s.aborted = append(s.aborted, Aborted{ProducerID: h.ProducerID, First: first, Last: h.LastOffset(), stable: stable})
}

// FirstOpen is the offset at which the oldest open transaction began: the last
// stable offset of the partition. ok is false if none is open.
func (s *State) FirstOpen() (offset int64, ok bool) {
	if len(s.open) == 0 {
		return 0, false
	}
	return s.open[0].first, true
}

// Aborted lists the aborted transactions in the order of their markers. The
// list may be kept: it is appended to and replaced, but never changed.
func (s *State) Aborted() []Aborted { return s.aborted }

// Forget drops the aborted transactions that ended before the start of the log.
func (s *State) Forget(logStart int64) {
	if n := sort.Search(len(s.aborted), func(i int) bool { return s.aborted[i].Last >= logStart }); n > 0 {
		s.aborted = slices.Clone(s.aborted[n:])
	}
}

// Retain drops the aborted transactions that ended before offset end and whose
// markers are not among those given, in order: compaction has removed them with
// everything else of their transactions. It reports whether there were any.
func (s *State) Retain(end int64, markers []int64) bool {
	gone := func(a Aborted) bool {
		_, found := slices.BinarySearch(markers, a.Last)
		return a.Last < end && !found
	}
	if !slices.ContainsFunc(s.aborted, gone) {
		return false
	}
	s.aborted = slices.DeleteFunc(slices.Clone(s.aborted), gone)
	return true
}

// Knows reports whether there is anything of a producer.
func (s *State) Knows(producerID int64) bool { return s.producers[producerID] != nil }

// Overlapping returns those of a State's aborted transactions that lie at
// least partly between two offsets, the second exclusive.
func Overlapping(aborted []Aborted, from, to int64) []Aborted {
	aborted = aborted[sort.Search(len(aborted), func(i int) bool { return aborted[i].Last >= from }):]
	var out []Aborted
	for _, a := range aborted {
		if a.First < to {
			out = append(out, a)
		}
		if a.stable >= to {
			break
		}
	}
	return out
}

// Info is what is known of a producer.
type Info struct {
	ProducerID   int64
	Epoch        int16
	LastSequence int32     // -1: it has written none in this epoch
	Updated      time.Time // when it last wrote
	FirstOpen    int64     // where its open transaction began; -1: it has none
}

// Producers lists the producers by id.
func (s *State) Producers() []Info {
	out := make([]Info, 0, len(s.producers))
	for id, p := range s.producers {
		info := Info{ProducerID: id, Epoch: p.epoch, LastSequence: -1, Updated: time.UnixMilli(p.updated), FirstOpen: -1}
		if p.count > 0 {
			info.LastSequence = p.last().lastSequence
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.ProducerID, b.ProducerID) })
	for _, o := range s.open {
		i, _ := slices.BinarySearchFunc(out, o.producerID, func(p Info, id int64) int { return cmp.Compare(p.ProducerID, id) })
		out[i].FirstOpen = o.first
	}
	return out
}

// Open returns the epoch and first offset of a producer's open transaction; ok is false if it has none.
func (s *State) Open(producerID int64) (epoch int16, first int64, ok bool) {
	p := s.producers[producerID]
	if p == nil || !p.open {
		return 0, 0, false
	}
	for _, o := range s.open {
		if o.producerID == producerID {
			first = o.first
		}
	}
	return p.epoch, first, true
}

// OpenTransactions lists the producers that have an open transaction, in the order in which those began.
func (s *State) OpenTransactions() []Info {
	out := make([]Info, 0, len(s.open))
	for _, o := range s.open {
		p := s.producers[o.producerID]
		out = append(out, Info{ProducerID: o.producerID, Epoch: p.epoch, LastSequence: -1, Updated: time.UnixMilli(p.updated), FirstOpen: o.first})
	}
	return out
}
