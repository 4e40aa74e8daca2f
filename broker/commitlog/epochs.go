package commitlog

import (
	"fmt"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/millstream-io/millstream/broker/record"
)

// NoEpoch is the leader epoch of a log that has none, and the answer to a question about one that is unknown.
const NoEpoch = -1

// impliedEpoch is the first leader epoch of a log that has written down none.
const impliedEpoch = 0

// epochList is where leader epochs began, in order. It is replaced as a whole, by who holds metaMu.
type epochList struct{ list atomic.Pointer[[]epochStart] }

func (e *epochList) get() []epochStart {
	if p := e.list.Load(); p != nil {
		return *p
	}
	return nil
}

func (e *epochList) set(list []epochStart) { e.list.Store(&list) }

// check says what is wrong with the leader epoch of a stored batch: nothing else protects that field.
func (e *epochList) check(lastOffset int64, epoch int32) error {
	list := e.get()
	i := sort.Search(len(list), func(i int) bool { return list[i].offset > lastOffset })
	if i == 0 {
		return nil // it lies before the start of the log
	}
	if want := list[i-1].epoch; epoch != want {
		return fmt.Errorf("%w: batch that ends at offset %d has leader epoch %d, not %d", record.ErrCorrupt, lastOffset, epoch, want)
	}
	return nil
}

// noteEpoch makes a leader epoch that begins at offset known and durable
// before the first batch with it is written. Only a log that begins with the
// implied epoch and knows no other has nothing written down.
func (l *Log) noteEpoch(epoch int32, offset int64) error {
	if epoch < 0 {
		return fmt.Errorf("leader epoch %d is negative", epoch)
	}
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	list := l.epochs.get()
	n := len(list)
	if n > 0 {
		last := list[n-1].epoch
		if epoch == last {
			return nil
		}
		if epoch < last {
			return fmt.Errorf("leader epoch %d is older than the log's %d", epoch, last)
		}
	}
	list = append(slices.Clone(list), epochStart{epoch, offset})
	if n > 0 || epoch != impliedEpoch {
		if err := saveCheckpoint(l, l.start.Load(), list); err != nil {
			return err
		}
	}
	l.epochs.set(list)
	return nil
}

// LastEpoch is the leader epoch of the last batch, or NoEpoch.
func (l *Log) LastEpoch() int32 {
	if list := l.epochs.get(); len(list) > 0 {
		return list[len(list)-1].epoch
	}
	return NoEpoch
}

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch that is not above
// the given one, and the offset behind its last batch. An epoch before all
// that are known ends where the first of them begins; one above them all is
// unknown: NoEpoch, -1.
func (l *Log) EpochEnd(epoch int32) (endEpoch int32, endOffset int64) {
	end := l.end.Load() // before the list: an epoch that is not in it begins behind
	list := l.epochs.get()
	n := len(list)
	higher := n
	for i, e := range list {
		if e.epoch > epoch {
			higher = i
			break
		}
	}
	switch {
	case epoch < 0 || n == 0 || higher == n && list[n-1].epoch != epoch:
		return NoEpoch, -1
	case higher == n:
		return epoch, end
	case higher == 0:
		return epoch, list[0].offset
	}
	return list[higher-1].epoch, list[higher].offset
}
