package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// topicTable is what exists, as a test says.
type topicTable struct {
	mu     sync.Mutex
	topics map[string]topic.Info
	watch  map[chan<- struct{}]bool
	ids    byte
}

func newTopicTable() *topicTable {
	return &topicTable{topics: map[string]topic.Info{}, watch: map[chan<- struct{}]bool{}}
}

func (t *topicTable) Lookup(name string) (topic.Info, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, ok := t.topics[name]
	return info, ok
}

func (t *topicTable) List() []topic.Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []topic.Info
	for _, name := range slices.Sorted(maps.Keys(t.topics)) {
		all = append(all, t.topics[name])
	}
	return all
}

func (t *topicTable) Watch(ch chan<- struct{}) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch[ch] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watch, ch)
	}
}

// set creates, grows (same name) or deletes (no partitions) a topic and returns its id.
func (t *topicTable) set(name string, partitions int) topic.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := t.topics[name]
	if info.Name == "" {
		t.ids++
		info = topic.Info{Name: name, ID: topic.ID{t.ids}}
	}
	info.Partitions = partitions
	t.topics[name] = info
	if partitions == 0 {
		delete(t.topics, name)
	}
	for ch := range t.watch {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	return info.ID
}

// audience is a world with topics and members of the consumer protocol.
type audience struct {
	*world
	topics    *topicTable
	consumers map[string]*consumer
}

func inAudience(t *testing.T, f func(w *audience)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newAudience(t, newMemJournal(2), newTopicTable())
		w.topics.set("t", 4)
		f(w)
		w.close()
	})
}

func newAudience(t *testing.T, j *memJournal, topics *topicTable) *audience {
	w := &audience{world: newWorld(t, Options{}, j), topics: topics, consumers: map[string]*consumer{}}
	w.c.Consumers().follow(topics)
	return w
}

// restarted is the same world after the broker was stopped and started again.
func (w *audience) restarted() *audience {
	w.t.Helper()
	w.close()
	after := newAudience(w.t, w.journal, w.topics)
	for name, m := range w.consumers {
		m.w = after
		after.consumers[name] = m
	}
	return after
}

// consumer is a member that does what it is told, when its test lets it.
type consumer struct {
	w        *audience
	id       string
	instance string
	epoch    int32
	topics   []string
	regex    string
	assignor string
	timeout  time.Duration
	owned    Partitions
	told     Partitions // what it may hold
	stubborn bool       // gives nothing up
	missed   bool       // the last answer was lost, so all is said and asked again
}

// member returns the consumer of that name, which reads topic "t".
func (w *audience) member(name string) *consumer {
	m := w.consumers[name]
	if m == nil {
		m = &consumer{w: w, id: name, topics: []string{"t"}, timeout: 30 * time.Second}
		w.consumers[name] = m
	}
	return m
}

func (m *consumer) heartbeat() ConsumerHeartbeat {
	h := ConsumerHeartbeat{Group: groupName, MemberID: m.id, InstanceID: m.instance, ClientID: "c", ClientHost: "/h",
		Epoch: m.epoch, RebalanceTimeout: -1, Owned: m.owned}
	if m.epoch <= 0 {
		m.owned, m.told = Partitions{}, Partitions{}
	}
	if m.epoch <= 0 || m.missed {
		h.Owned, h.RebalanceTimeout = m.owned, m.timeout
		h.Topics, h.Regex, h.Assignor = m.topics, &m.regex, &m.assignor
		if h.Topics == nil {
			h.Topics = []string{}
		}
	}
	return h
}

// beat sends a heartbeat and does what the answer says: lets go of what it is to
// give up, which the next one tells, and takes what it is given.
func (m *consumer) beat() error {
	return m.say(m.heartbeat())
}

func (m *consumer) say(h ConsumerHeartbeat) error {
	answer, err := m.w.c.Consumers().Heartbeat(context.Background(), h)
	if err != nil {
		return err
	}
	m.epoch, m.missed = answer.Epoch, false
	if answer.Assigned != nil {
		m.told = answer.Assigned
	}
	if !m.stubborn {
		m.owned = m.told
	}
	return nil
}

func (m *consumer) want(want error) {
	m.w.t.Helper()
	if err := m.beat(); !errors.Is(err, want) {
		m.w.t.Fatalf("heartbeat of %s is answered %v, want %v", m.id, err, want)
	}
}

func (m *consumer) leave(epoch int32) error {
	h := ConsumerHeartbeat{Group: groupName, MemberID: m.id, InstanceID: m.instance, Epoch: epoch, RebalanceTimeout: -1}
	_, err := m.w.c.Consumers().Heartbeat(context.Background(), h)
	if err == nil {
		m.epoch, m.owned, m.told = 0, Partitions{}, Partitions{}
	}
	return err
}

// converge lets the members heartbeat in turn until the group is stable, and
// checks at each step that no partition has two owners.
func (w *audience) converge(members ...*consumer) {
	w.t.Helper()
	for range 20 {
		for _, m := range members {
			m.want(nil)
			w.exclusive()
		}
		if w.describe().State == consumerStable {
			return
		}
	}
	w.t.Fatalf("the group does not get stable: %+v", w.describe())
}

// exclusive checks that no partition is held by two consumers, whatever the coordinator thinks.
func (w *audience) exclusive() {
	w.t.Helper()
	owner := map[heldPartition]string{}
	for _, m := range w.consumers {
		m.owned.overlaps(func(id topic.ID, p int32) bool {
			if other, taken := owner[heldPartition{id, p}]; taken {
				w.t.Fatalf("partition %x-%d is held by %s and %s", id[:1], p, other, m.id)
			}
			owner[heldPartition{id, p}] = m.id
			return false
		})
	}
}

func (w *audience) describe() ConsumerDescription {
	w.t.Helper()
	d, err := w.c.Consumers().Describe(groupName)
	if err != nil {
		w.t.Fatalf("describe: %v", err)
	}
	return d
}

// members are the members and where they are, as text.
func (w *audience) members() string {
	g := w.c.groups[groupName]
	if g == nil || g.consumer == nil {
		return "none"
	}
	text := fmt.Sprint(g.consumer.epoch, g.consumer.assignEp)
	for _, id := range slices.Sorted(maps.Keys(g.consumer.members)) {
		m := g.consumer.members[id]
		text += fmt.Sprint(" ", id, m.memberAssignment, m.target)
	}
	return text
}

// compact leaves of each key the last record, as the cleaner does, and without tombstones if it has come that far.
func (j *memJournal) compact(dropTombstones bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, log := range j.logs {
		last := map[string]int{}
		for at, r := range log {
			last[string(r[0])] = at
		}
		var kept [][2][]byte
		for at, r := range log {
			if last[string(r[0])] == at && (r[1] != nil || !dropTombstones) {
				kept = append(kept, r)
			}
		}
		j.logs[i], j.durable[i] = kept, int64(len(kept))
	}
}

// held is the number of partitions that a member holds.
func (m *consumer) held() int { return m.owned.count() }
