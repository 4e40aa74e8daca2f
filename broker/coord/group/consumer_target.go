package group

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/millstream-io/millstream/broker/topic"
)

// topicSource is what consumer groups know of the topics.
type topicSource interface {
	Lookup(name string) (topic.Info, bool)
	List() []topic.Info
	Watch(ch chan<- struct{}) (cancel func())
}

// What is compiled is bounded by its length and, because repetitions multiply, by the steps it unfolds to.
const (
	maxRegexBytes = 16 << 10
	maxRegexSteps = 32 << 10
)

// compileRegex compiles a subscription. As in Kafka it has to match the whole name.
func compileRegex(expression string) (*regexp.Regexp, error) {
	if len(expression) > maxRegexBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrInvalidRegex, len(expression), maxRegexBytes)
	}
	// On its own first: a lone parenthesis must not close the group around it.
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRegex, err)
	}
	if n := regexSteps(parsed); n > maxRegexSteps {
		return nil, fmt.Errorf("%w: it unfolds to %d steps, at most %d are allowed", ErrInvalidRegex, n, maxRegexSteps)
	}
	r, err := regexp.Compile("^(?:" + expression + ")$")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRegex, err)
	}
	return r, nil
}

// regexSteps is about how many instructions an expression compiles to.
func regexSteps(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += regexSteps(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, 1<<30) // 1,000 repetitions of it still fit an int
}

// follow lets consumer groups see the topics, until Close.
func (a ConsumerGroups) follow(topics topicSource) {
	c := a.c
	c.topics = topics
	changed := make(chan struct{}, 1)
	cancel := topics.Watch(changed)
	for _, g := range c.all() {
		g.mu.Lock()
		g.modern().resume()
		g.mu.Unlock()
	}
	c.background.Go(func() {
		defer cancel()
		for {
			select {
			case <-c.ctx.Done():
				return
			case <-changed:
				c.topicsSeen.Add(1)
			}
		}
	})
}

// basis is what a target assignment is made from.
type basis struct {
	assignor string
	sizes    map[topic.ID]int32 // partition counts of the topics that somebody reads
	members  []subscriber       // by id
}

// subscriber is a member as an assignor sees it.
type subscriber struct {
	id, instanceID string
	topics         []topic.ID // sorted; they exist
	target         Partitions // what it was to have so far
}

// basis looks up what the members read now.
func (g modernGroup) basis() basis {
	b := basis{assignor: g.preferredAssignor(), sizes: map[topic.ID]int32{}}
	matched := map[string][]topic.Info{} // by regular expression
	for _, id := range slices.Sorted(maps.Keys(g.consumer.members)) {
		m := g.consumer.members[id]
		s := subscriber{id: id, instanceID: m.instanceID, target: m.target}
		add := func(info topic.Info) {
			s.topics = append(s.topics, info.ID)
			b.sizes[info.ID] = int32(info.Partitions)
		}
		for _, name := range m.topics {
			if info, ok := g.c.topics.Lookup(name); ok {
				add(info)
			}
		}
		if m.regex != "" && !m.namesOnly {
			if _, ok := matched[m.regex]; !ok {
				matched[m.regex] = g.matching(m.regex)
			}
			for _, info := range matched[m.regex] {
				add(info)
			}
		}
		slices.SortFunc(s.topics, compareIDs)
		s.topics = slices.Compact(s.topics)
		b.members = append(b.members, s)
	}
	return b
}

// matching returns the topics a subscription matches, the broker's own included, as in Kafka.
func (g modernGroup) matching(expression string) []topic.Info {
	r, err := compileRegex(expression)
	if err != nil { // checked when it came, so the journal has it from elsewhere
		g.c.log.Warn("subscription matches nothing", slog.String("group", g.id), slog.Any("error", err))
		return nil
	}
	return slices.DeleteFunc(g.c.topics.List(), func(info topic.Info) bool { return !r.MatchString(info.Name) })
}

// preferredAssignor is the one that most members ask for.
func (g modernGroup) preferredAssignor() string {
	votes := map[string]int{}
	for _, m := range g.consumer.members {
		if assignorOf(m.assignor) != nil {
			votes[m.assignor]++
		}
	}
	best := AssignorUniform
	for name, n := range votes {
		if n > votes[best] {
			best = name
		}
	}
	return best
}

// digest changes when the target assignment may have to. A static member counts by its instance id, whoever it is today.
func (b *basis) digest() int64 {
	h := fnv.New64a()
	digestString(h, b.assignor)
	for _, id := range slices.SortedFunc(maps.Keys(b.sizes), compareIDs) {
		h.Write(id[:])
		digestInt(h, int64(b.sizes[id]))
	}
	byName := slices.Clone(b.members)
	slices.SortFunc(byName, func(x, y subscriber) int {
		return cmp.Or(cmp.Compare(x.instanceID, y.instanceID), cmp.Compare(x.id, y.id))
	})
	for i := range byName {
		digestString(h, cmp.Or(byName[i].instanceID, byName[i].id))
		digestInt(h, int64(len(byName[i].topics)))
		for _, id := range byName[i].topics {
			h.Write(id[:])
		}
	}
	return int64(h.Sum64())
}

func digestInt(h hash.Hash, n int64) { binary.Write(h, binary.BigEndian, n) } // a hash takes every write

func digestString(h hash.Hash, s string) {
	digestInt(h, int64(len(s)))
	h.Write([]byte(s))
}

// settle begins a new group epoch if what the target assignment depends on has
// changed: members, what they read, the assignor they want, or the topics.
func (g modernGroup) settle() error {
	s := g.consumer
	seen := g.c.topicsSeen.Load()
	if !s.unsettled && s.seen == seen {
		return nil
	}
	b := g.basis()
	if digest := b.digest(); digest != s.basis || !s.stored {
		r := consumerRecord{kind: recordGroup, epoch: nextEpoch(max(s.epoch, s.assignEp)), basis: digest}
		if err := g.write(consumerEntry(g.id, r)); err != nil {
			return err
		}
		g.c.log.Debug("group rebalances", slog.String("group", g.id), slog.Int("epoch", int(s.epoch)), slog.Int("members", len(s.members)))
	}
	s.unsettled, s.seen = false, seen
	return nil
}

// retarget makes a new target assignment if the group's epoch has gone on. Its epoch
// is written last, so that one that was cut short is made again.
func (g modernGroup) retarget() error {
	s := g.consumer
	if s.assigned && s.assignEp == s.epoch {
		return nil
	}
	b := g.basis()
	targets := assignorOf(b.assignor)(&b)
	var entries []entry
	for i := range b.members {
		id := b.members[i].id
		if target := targets[id]; !target.equal(b.members[i].target) {
			entries = append(entries, targetEntry(g.id, id, target))
		}
	}
	entries = append(entries, consumerEntry(g.id, consumerRecord{kind: recordTarget, epoch: s.epoch}))
	return g.write(entries...)
}
