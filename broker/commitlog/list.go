package commitlog

import (
	"sort"

	"github.com/millstream-io/millstream/broker/segment"
)

// segmentList is the segments of a log in order. It is never changed, only replaced.
type segmentList []*segment.Segment

// active is the segment that is appended to.
func (list segmentList) active() *segment.Segment { return list[len(list)-1] }

// from returns the segments from the one that holds offset on.
func (list segmentList) from(offset int64) segmentList {
	i := sort.Search(len(list), func(i int) bool { return list[i].BaseOffset() > offset })
	return list[max(i-1, 0):]
}

// sealed returns the segments that hold the offsets from base up to next, without the active one.
func (list segmentList) sealed(base, next int64) segmentList {
	var out segmentList
	for _, s := range list[:len(list)-1] {
		if s.BaseOffset() >= base && s.NextOffset() <= next {
			out = append(out, s)
		}
	}
	return out
}
