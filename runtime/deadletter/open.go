package deadletter

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/millstream-io/millstream/runtime/engine"
)

// HeaderRetryOf is on a record that was sent to its topic once more: the
// dead letter it was taken from, as "topic/partition@offset". Guests see it like any other header.
const HeaderRetryOf = "millstream.retry.of"

// ErrNoLetter: the record has no envelope, or one that is not complete: somebody else wrote it.
var ErrNoLetter = errors.New("no dead letter")

// Letter is a dead letter out of its envelope.
type Letter struct {
	Failure
	Source
	From   engine.TopicPartition // where the record was read
	Offset int64                 // there
	// CutBytes is the length of the value that was left out because the topic does not take
	// it; -1: the record is whole.
	CutBytes int
	// KeyCut: the key was left out, too.
	KeyCut bool
	// Record is the record as it was, except for its offset; if it was cut it has neither value nor headers.
	Record engine.Record
}

// Open takes the envelope off a record of a dead letter topic. The letter shares the bytes of r. Error: ErrNoLetter.
func Open(r engine.Record) (*Letter, error) {
	l := &Letter{CutBytes: -1, Record: r}
	l.Record.Headers = nil
	ours := map[string]string{}
	for _, h := range r.Headers {
		if isOurs(h.Name) {
			ours[h.Name] = string(h.Value)
			continue
		}
		l.Record.Headers = append(l.Record.Headers, h)
	}
	l.Reason, l.Kind = ours[HeaderReason], ours[HeaderKind]
	l.Deployment, l.Module = ours[HeaderDeployment], ours[HeaderModule]
	if l.From.Topic = ours[HeaderTopic]; l.From.Topic == "" {
		return nil, fmt.Errorf("%w: it has no header %s", ErrNoLetter, HeaderTopic)
	}
	partition, err := strconv.ParseInt(ours[HeaderPartition], 10, 32)
	if err != nil || partition < 0 {
		return nil, fmt.Errorf("%w: its header %s is %q", ErrNoLetter, HeaderPartition, ours[HeaderPartition])
	}
	l.From.Partition = int32(partition)
	if l.Offset, err = strconv.ParseInt(ours[HeaderOffset], 10, 64); err != nil || l.Offset < 0 {
		return nil, fmt.Errorf("%w: its header %s is %q", ErrNoLetter, HeaderOffset, ours[HeaderOffset])
	}
	if cut, ok := ours[HeaderCut]; ok {
		if l.CutBytes, err = strconv.Atoi(cut); err != nil || l.CutBytes < 0 {
			return nil, fmt.Errorf("%w: its header %s is %q", ErrNoLetter, HeaderCut, cut)
		}
	}
	_, l.KeyCut = ours[HeaderKeyCut]
	return l, nil
}

// Again is the record as it is sent once more: as it was, with HeaderRetryOf in place of an earlier one.
// letter says which dead letter it is.
func (l *Letter) Again(letter string) engine.Record {
	r := l.Record
	r.Headers = make([]engine.Header, 0, len(l.Record.Headers)+1)
	for _, h := range l.Record.Headers {
		if h.Name != HeaderRetryOf {
			r.Headers = append(r.Headers, h)
		}
	}
	r.Headers = append(r.Headers, engine.Header{Name: HeaderRetryOf, Value: []byte(letter)})
	return r
}
