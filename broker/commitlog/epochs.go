package commitlog

import (
	"fmt"
	"slices"
)

// NoEpoch is the leader epoch of a log that has none, and the answer to a question about one that is unknown.
const NoEpoch = -1

// noteEpoch makes a leader epoch that begins at offset known and durable
// before the first batch with it is written. The first epoch of a log is not
// written down: Open reads it from the first batch.
func (l *Log) noteEpoch(epoch int32, offset int64) error {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	n := len(l.epochs)
	if n > 0 {
		last := l.epochs[n-1].epoch
		if epoch == last {
			return nil
		}
		if epoch < last {
			return fmt.Errorf("leader epoch %d is older than the log's %d", epoch, last)
		}
	}
	epochs := append(slices.Clone(l.epochs), epochStart{epoch, offset})
	if n > 0 {
		if err := writeCheckpoint(l.o.FS, l.o.Dir, checkpoint{start: l.start.Load(), epochs: epochs}); err != nil {
			return err
		}
	}
	l.epochs = epochs
	return nil
}

// LastEpoch is the leader epoch of the last batch, or NoEpoch.
func (l *Log) LastEpoch() int32 {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	if n := len(l.epochs); n > 0 {
		return l.epochs[n-1].epoch
	}
	return NoEpoch
}

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch that is not above
// the given one, and the offset behind its last batch. An epoch before all
// that are known ends where the first of them begins; one above them all is
// unknown: NoEpoch, -1.
func (l *Log) EpochEnd(epoch int32) (endEpoch int32, endOffset int64) {
	l.metaMu.Lock()
	defer l.metaMu.Unlock()
	n := len(l.epochs)
	higher := n
	for i, e := range l.epochs {
		if e.epoch > epoch {
			higher = i
			break
		}
	}
	switch {
	case epoch < 0 || n == 0 || higher == n && l.epochs[n-1].epoch != epoch:
		return NoEpoch, -1
	case higher == n:
		return epoch, l.end.Load()
	case higher == 0:
		return epoch, l.epochs[0].offset
	}
	return l.epochs[higher-1].epoch, l.epochs[higher].offset
}
