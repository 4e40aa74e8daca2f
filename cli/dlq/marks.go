package dlq

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// marks tell which letters of a topic were sent once more. In the group's offsets they are, for
// each partition, the offset before which all were, and as metadata, those behind it.
type marks struct {
	partitions map[int32]*progress
}

// progress of one partition.
type progress struct {
	before int64 // all letters before this offset are done
	ranges []span
}

// span is a range of offsets that are done, ascending and apart in progress.ranges.
type span struct{ from, to int64 } // to is not in it

// maxMetadataBytes is Kafka's default offset.metadata.max.bytes.
const maxMetadataBytes = 4096

// metadataPrefix tells our metadata, and its form, from what others write.
const metadataPrefix = "retried:1:"

// readMarks asks the group's coordinator.
func readMarks(ctx context.Context, client *kadm.Client, group, topic string) (*marks, error) {
	m := &marks{partitions: map[int32]*progress{}}
	responses, err := client.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the marks of what was retried, the offsets of the group %q: %w", group, err)
	}
	for partition, r := range responses[topic] {
		if r.Err != nil {
			return nil, fmt.Errorf("read the marks of what was retried, the offset of the group %q for partition %d: %w", group, partition, r.Err)
		}
		if r.At < 0 {
			continue
		}
		ranges, err := decodeRanges(r.At, r.Metadata)
		if err != nil {
			return nil, command.Failedf("the offset of the group %q for partition %d: %w", group, partition, err).
				WithFix("another program has committed it; to forget what was retried: millstream group delete %s", group)
		}
		m.partitions[partition] = &progress{before: r.At, ranges: ranges}
	}
	return m, nil
}

// has tells whether the letter at an offset is done.
func (m *marks) has(partition int32, offset int64) bool {
	p := m.partitions[partition]
	if p == nil {
		return false
	}
	if offset < p.before {
		return true
	}
	i, _ := slices.BinarySearchFunc(p.ranges, offset, func(s span, at int64) int {
		if at < s.to {
			return 1
		}
		return -1
	})
	return i < len(p.ranges) && p.ranges[i].from <= offset
}

// start is the first offset of a partition that is not done.
func (m *marks) start(partition int32) int64 {
	if p := m.partitions[partition]; p != nil {
		return p.before
	}
	return 0
}

// add marks the letter at an offset.
func (m *marks) add(partition int32, offset int64) {
	p := m.partitions[partition]
	if p == nil {
		p = &progress{}
		m.partitions[partition] = p
	}
	if m.has(partition, offset) {
		return
	}
	i, _ := slices.BinarySearchFunc(p.ranges, offset, func(s span, at int64) int {
		if at < s.from {
			return 1
		}
		return -1
	})
	p.ranges = slices.Insert(p.ranges, i, span{offset, offset + 1})
	p.join()
}

// gap says that between two offsets there is no letter: what is done on both sides of it is one range. It returns
// whether that changes the marks.
func (m *marks) gap(partition int32, from, to int64) bool {
	p := m.partitions[partition]
	if p == nil {
		p = &progress{}
		m.partitions[partition] = p
	}
	changed := false
	if p.before >= from && p.before < to {
		p.before, changed = to, true
	}
	for i := range p.ranges {
		if p.ranges[i].to == from && from < to {
			p.ranges[i].to, changed = to, true
		}
	}
	p.join()
	return changed
}

// join unites ranges that touch, and takes those that touch the done beginning into it.
func (p *progress) join() {
	out := p.ranges[:0]
	for _, s := range p.ranges {
		switch n := len(out); {
		case s.from <= p.before:
			p.before = max(p.before, s.to)
		case n > 0 && s.from <= out[n-1].to:
			out[n-1].to = max(out[n-1].to, s.to)
		default:
			out = append(out, s)
		}
	}
	p.ranges = out
}

// offsets are the marks as offsets to commit.
func (m *marks) offsets(topic string) (kadm.Offsets, error) {
	out := kadm.Offsets{}
	for partition, p := range m.partitions {
		metadata := encodeRanges(p.before, p.ranges)
		if len(metadata) > maxMetadataBytes {
			return nil, command.Conflictf("partition %d of %s has too many retried letters between others that are not (%d ranges)", partition, topic, len(p.ranges)).
				WithFix("retry older ones first: there is room for about 2,000 ranges")
		}
		out.Add(kadm.Offset{Topic: topic, Partition: partition, At: p.before, LeaderEpoch: -1, Metadata: metadata})
	}
	return out, nil
}

// encodeRanges writes the distances from one edge to the next, beginning at before.
func encodeRanges(before int64, ranges []span) string {
	if len(ranges) == 0 {
		return ""
	}
	var b []byte
	at := before
	for _, s := range ranges {
		b = binary.AppendUvarint(b, uint64(s.from-at))
		b = binary.AppendUvarint(b, uint64(s.to-s.from))
		at = s.to
	}
	return metadataPrefix + base64.RawStdEncoding.EncodeToString(b)
}

var errMetadata = errors.New("its metadata is not what millstream dlq retry writes")

func decodeRanges(before int64, metadata string) ([]span, error) {
	if metadata == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(metadata, metadataPrefix)
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return nil, errMetadata
	}
	var ranges []span
	for at := uint64(before); len(b) > 0; {
		skip, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errMetadata
		}
		length, k := binary.Uvarint(b[n:])
		const limit = 1 << 62
		if k <= 0 || skip == 0 || length == 0 || skip > limit || length > limit || at+skip+length > limit {
			return nil, errMetadata
		}
		b = b[n+k:]
		ranges = append(ranges, span{int64(at + skip), int64(at + skip + length)})
		at += skip + length
	}
	return ranges, nil
}
