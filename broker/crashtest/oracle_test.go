package crashtest

import (
	"fmt"
	"sync"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
)

// place is a partition of one life of a topic: a topic that is created again is another one.
type place struct {
	topic     string
	life      int
	partition int32
}

// message is a record that was attempted. Its id is unique and travels in a header.
type message struct {
	id        string
	key       string
	tombstone bool
	offset    int64 // once it was acknowledged
}

// attempt is a batch that was handed to the broker.
type attempt struct {
	at       int // changes of the disk before it was tried
	acked    int // changes of the disk when it was acknowledged, or never
	place    place
	messages []message
	bytes    []byte       // as sent; nil if it is not to be sent again
	txn      *transaction // that it is part of, or nil
}

// transaction is decided somewhere between ending and ended.
type transaction struct {
	ending, ended int
	commit        bool
	offsets       []*commit // of groups
}

// committed says whether a transaction was (sure) or may have been committed at
// a moment, where acknowledgements count up to another. No transaction is a committed one.
func (x *transaction) committed(at, acks int) (sure, maybe bool) {
	if x == nil {
		return true, true
	}
	return x.commit && x.ended <= acks, x.commit && x.ending <= at
}

const never = 1 << 60

// life is one life of a topic, from its creation to its deletion, in changes of the disk.
type life struct {
	topic                               string
	number                              int
	compact                             bool
	creating, created, deleting, erased int
	id                                  topic.ID
	partitions                          []growth
	configs                             []setting
}

// growth says that a topic has so many partitions.
type growth struct{ begun, done, count int }

// setting says that retention.ms of a topic has a value.
type setting struct {
	begun, done int
	value       string
}

// commit is an offset committed by a group.
type commit struct {
	begun, done int
	group       string
	tp          group.TopicPartition
	offset      int64
	txn         *transaction // that it is part of, or nil
}

// start is a log start: while it is moved (begun to done) it lies between the one before and to.
type start struct {
	begun, done int
	place       place
	to, exactly int64 // to: at most this far, -1: to the end; exactly: what was seen afterwards, or -1
}

// oracle knows what was attempted and what was acknowledged, and when.
type oracle struct {
	now func() int // changes of the disk so far

	mu        sync.Mutex
	serial    int
	clusterID string
	clusterAt int
	lives     []*life
	attempts  []*attempt
	commits   []*commit
	starts    []*start
	ids       []issued
	txns      []*transaction
	beats     []*beat
}

// issued is a producer id that was given out.
type issued struct {
	at int
	id int64
}

// nextID names a message.
func (o *oracle) nextID() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serial++
	return fmt.Sprintf("m%d", o.serial)
}

func (o *oracle) opened(clusterID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.clusterID == "" {
		o.clusterID, o.clusterAt = clusterID, o.now()
	}
}

func (o *oracle) creating(name string, partitions int, compact bool) *life {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := &life{topic: name, number: len(o.lives), compact: compact, creating: o.now(), created: never, deleting: never, erased: never}
	l.partitions = []growth{{l.creating, never, partitions}}
	o.lives = append(o.lives, l)
	return l
}

func (o *oracle) created(l *life, id topic.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.created, l.id = o.now(), id
	l.partitions[0].done = l.created
}

// trying takes down an attempt; acknowledge or nothing follows.
func (o *oracle) trying(p place, messages []message, bytes []byte) *attempt {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := &attempt{at: o.now(), acked: never, place: p, messages: messages, bytes: bytes}
	o.attempts = append(o.attempts, a)
	return a
}

func (o *oracle) acknowledge(a *attempt, base int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range a.messages {
		a.messages[i].offset = base + int64(i)
	}
	a.acked = o.now()
}

func (o *oracle) committing(name string, tp group.TopicPartition, offset int64) *commit {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &commit{begun: o.now(), done: never, group: name, tp: tp, offset: offset}
	o.commits = append(o.commits, c)
	return c
}

func (o *oracle) committed(c *commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.done = o.now()
}

func (o *oracle) advancing(p place, to int64) *start {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &start{begun: o.now(), done: never, place: p, to: to, exactly: -1}
	o.starts = append(o.starts, s)
	return s
}

func (o *oracle) advanced(s *start, exactly int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.done, s.exactly = o.now(), exactly
}

func (o *oracle) issue(id int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids = append(o.ids, issued{o.now(), id})
}

func (o *oracle) beginning() *transaction {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := &transaction{ending: never, ended: never}
	o.txns = append(o.txns, x)
	return x
}

// mark runs f with the present moment.
func (o *oracle) mark(f func(now int)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(o.now())
}

// expectation is what must and may hold after some number of changes.
type expectation struct {
	*oracle
	at    int
	acks  int // acknowledgements count if they came at or before this change; at, but for the control runs
	logs  map[place]*logExpectation
	lives []*life
}

// logExpectation is what must and may be in one partition.
type logExpectation struct {
	life     *life
	messages map[string]*expected
	lastKey  map[string]*expected // the acknowledged and committed message with the largest offset of each key
	buried   map[string]bool      // keys with a tombstone in doubt: with what it replaced it may have gone for good
	end      int64                // behind the last acknowledged message
	floor    int64                // the log starts here at the earliest
	ceiling  int64                // and here at the latest; -1: at the end
	pending  []*attempt           // with a producer id, not acknowledged
	finished []*attempt           // with a producer id, acknowledged
}

type expected struct {
	message
	acked   bool
	attempt *attempt
	hidden  bool // it is part of a transaction that cannot have been committed
	sure    bool // it is part of none, or of one that was committed
}

// expect returns what holds after so many changes; early moves acknowledgements ahead of their time.
func (o *oracle) expect(at, early int) *expectation {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := &expectation{oracle: o, at: at, acks: at + early, logs: map[place]*logExpectation{}}
	for _, l := range o.lives {
		if l.creating <= at {
			e.lives = append(e.lives, l)
		}
	}
	for _, a := range o.attempts {
		if a.at <= at {
			e.addAttempt(a)
		}
	}
	for _, s := range o.starts {
		if s.begun > at {
			continue
		}
		l := e.log(s.place)
		if s.done <= at && s.exactly >= 0 {
			l.floor, l.ceiling = s.exactly, s.exactly
		} else {
			l.ceiling = s.to
		}
	}
	return e
}

func (e *expectation) log(p place) *logExpectation {
	l := e.logs[p]
	if l == nil {
		l = &logExpectation{life: e.oracle.lives[p.life], messages: map[string]*expected{}, lastKey: map[string]*expected{}, buried: map[string]bool{}}
		e.logs[p] = l
	}
	return l
}

func (e *expectation) addAttempt(a *attempt) {
	l := e.log(a.place)
	acked := a.acked <= e.acks
	sure, maybe := a.txn.committed(e.at, e.acks)
	for _, m := range a.messages {
		x := &expected{message: m, acked: acked, attempt: a, hidden: !maybe, sure: sure}
		l.messages[m.id] = x
		if m.tombstone && maybe && !(acked && sure) {
			l.buried[m.key] = true
		}
		if !acked {
			continue
		}
		l.end = max(l.end, m.offset+1)
		if !sure {
			continue
		}
		if last := l.lastKey[m.key]; last == nil || last.offset < m.offset {
			l.lastKey[m.key] = x
		}
	}
	switch {
	case a.bytes == nil:
	case acked:
		l.finished = append(l.finished, a)
	default:
		l.pending = append(l.pending, a)
	}
}
