package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// reader is a consumer of the classic protocol with an assignor of its own. It does
// one thing after the other, as its clients' libraries do; what waits for others waits in the background.
type reader struct {
	w           *audience
	name, id    string
	instance    string
	cooperative bool // keeps what it holds while it joins
	generation  int32
	joining     bool // is to join
	owned       []TopicPartition
	waiting     *pending
	joined      JoinResponse
}

func (w *audience) reader(name string, cooperative bool) *reader {
	return &reader{w: w, name: name, cooperative: cooperative, joining: true, generation: -1}
}

// step does what comes next.
func (r *reader) step() {
	if r.waiting != nil {
		if err := r.waiting.outcome(); errors.Is(err, errWaiting) {
			return
		} else {
			r.waiting = nil
			r.answered(err)
		}
		return
	}
	if r.joining {
		r.join()
		return
	}
	r.answered(r.w.c.Heartbeat(context.Background(), r.identity()))
}

func (r *reader) identity() Identity {
	return Identity{Group: groupName, MemberID: r.id, InstanceID: r.instance, Generation: r.generation}
}

func (r *reader) answered(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrMemberIDRequired), errors.Is(err, ErrRebalanceInProgress):
		r.rejoin()
	case errors.Is(err, ErrUnknownMember), errors.Is(err, ErrIllegalGeneration):
		if errors.Is(err, ErrUnknownMember) {
			r.id = ""
		}
		r.generation, r.owned = -1, nil
		r.rejoin()
	default:
		r.w.t.Errorf("%s: %v", r.name, err)
	}
}

func (r *reader) rejoin() {
	r.joining = true
	if !r.cooperative {
		r.owned = nil
	}
}

func (r *reader) join() {
	s := Subscription{Topics: []string{"t"}, Owned: r.owned, Generation: r.generation}
	request := JoinRequest{Group: groupName, MemberID: r.id, InstanceID: r.instance, ClientID: r.name, ClientHost: "/h",
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 30 * time.Second, ProtocolType: ConsumerProtocolType,
		Protocols: []Protocol{{Name: "range", Metadata: s.Encode()}}, RequireMemberID: true}
	r.waiting = start(func() error {
		answer, err := r.w.c.Join(context.Background(), request)
		if answer.MemberID != "" {
			r.id = answer.MemberID
		}
		if err != nil {
			return err
		}
		r.generation, r.joined = answer.Generation, answer
		return r.sync()
	})
}

func (r *reader) sync() error {
	request := SyncRequest{Group: groupName, MemberID: r.id, InstanceID: r.instance, Generation: r.generation, ProtocolType: ConsumerProtocolType, Protocol: "range"}
	if r.joined.Leader == r.id {
		request.Assignments = map[string][]byte{}
		for i, m := range r.joined.Members {
			var share []TopicPartition
			for p := i; p < 4; p += len(r.joined.Members) {
				share = append(share, TopicPartition{"t", int32(p)})
			}
			request.Assignments[m.MemberID] = EncodeAssignment(share)
		}
	}
	answer, err := r.w.c.Sync(context.Background(), request)
	if err != nil {
		return err
	}
	held, err := DecodeAssignment(answer.Assignment)
	if err != nil {
		return err
	}
	r.joining = false
	r.owned = held
	return nil
}

// party is an application whose members speak either protocol.
type party struct {
	*audience
	readers []*reader
	modern  []*consumer
	random  *rand.Rand
	topic   topic.ID
}

// run lets everybody act in any order until nothing has moved for a while, and checks that no partition has two owners.
func (p *party) run() {
	p.t.Helper()
	quiet := 0
	for range 400 {
		before := p.holdings()
		switch n := p.random.IntN(len(p.readers) + len(p.modern)); {
		case n < len(p.readers):
			p.readers[n].step()
		default:
			m := p.modern[n-len(p.readers)]
			if err := m.beat(); err != nil {
				p.t.Fatalf("%s: %v", m.id, err)
			}
		}
		synctest.Wait()
		time.Sleep(200 * time.Millisecond)
		after := p.holdings() // and nobody holds what another one holds
		if quiet++; before != after {
			quiet = 0
		}
		if quiet > 60 && p.whole() {
			return
		}
	}
	p.t.Fatalf("it does not settle: %s", p.holdings())
}

// restart stops the broker and starts it again, now and then. A classic group
// forgets its members with that, so what they hold may be given to others before they learn of it.
func (p *party) restart() {
	if p.random.IntN(2) > 0 || p.c.List()[0].Type != TypeConsumer {
		return
	}
	p.audience = p.restarted()
	for _, r := range p.readers {
		r.w = p.audience
	}
	for _, m := range p.modern {
		m.w = p.audience
	}
}

func (p *party) owners() map[int32][]string {
	owners := map[int32][]string{}
	for _, r := range p.readers {
		for _, tp := range r.owned {
			owners[tp.Partition] = append(owners[tp.Partition], r.name)
		}
	}
	for _, m := range p.modern {
		for _, partition := range m.owned[p.topic] {
			owners[partition] = append(owners[partition], m.id)
		}
	}
	return owners
}

func (p *party) holdings() string {
	p.t.Helper()
	owners := p.owners()
	for partition, names := range owners {
		if len(names) > 1 {
			p.t.Fatalf("partition %d is held by %v", partition, names)
		}
	}
	return fmt.Sprint(owners)
}

// whole reports whether every partition has an owner and the shares are even.
func (p *party) whole() bool {
	share := map[string]int{}
	owners := p.owners()
	for _, names := range owners {
		share[names[0]]++
	}
	members := len(p.readers) + len(p.modern)
	for _, n := range share {
		if n > (4+members-1)/members {
			return false
		}
	}
	return len(owners) == 4
}

func (p *party) commitAll() {
	p.t.Helper()
	for _, r := range p.readers {
		p.commit(r.identity(), 5).want(p.t, nil)
	}
	for _, m := range p.modern {
		p.commit(Identity{Group: groupName, MemberID: m.id, Generation: m.epoch}, 5).want(p.t, nil)
	}
}

func (p *party) wantType(want string) {
	p.t.Helper()
	if l := p.c.List(); len(l) != 1 || l[0].Type != want {
		p.t.Fatalf("groups are %+v, want one of type %s", l, want)
	}
}

// TestMigration replaces the members of an application one by one, and back again; restarts come in between.
func TestMigration(t *testing.T) {
	for seed := range uint64(20) {
		for _, cooperative := range []bool{false, true} {
			inAudience(t, func(w *audience) {
				id := w.topics.set("t", 4)
				p := &party{audience: w, random: rand.New(rand.NewPCG(seed, 1)), topic: id}
				p.readers = []*reader{w.reader("r1", cooperative), w.reader("r2", cooperative)}
				p.run()
				p.wantType(TypeClassic)
				p.commitAll()
				for _, name := range []string{"m1", "m2"} {
					p.modern = append(p.modern, p.member(name))
					p.run()
					p.wantType(TypeConsumer)
					p.commitAll()
					gone := p.readers[0]
					p.readers = p.readers[1:]
					start(func() error { return p.c.Leave(context.Background(), gone.identity(), "replaced") }).want(t, nil)
					p.restart()
					p.run()
					p.commitAll()
				}
				for i := range 2 {
					p.readers = append(p.readers, p.reader(fmt.Sprint("r", 3+i), cooperative))
					p.run()
					p.wantType(TypeConsumer)
					p.commitAll()
					if err := p.modern[0].leave(LeaveEpoch); err != nil {
						t.Fatal(err)
					}
					p.modern = p.modern[1:]
					p.run()
					p.commitAll()
					p.restart()
				}
				p.run()
				p.wantType(TypeClassic)
				if got := p.committed(); got != 5 {
					t.Fatalf("committed offset is %d", got)
				}
				if p.audience != w {
					p.close()
				}
			})
		}
	}
}

// TestMixedGroupRestarts: members of the classic protocol that are in a consumer group are known after a restart.
func TestMixedGroupRestarts(t *testing.T) {
	inAudience(t, func(w *audience) {
		p := &party{audience: w, random: rand.New(rand.NewPCG(1, 1)), topic: w.topics.set("t", 4)}
		p.readers = []*reader{w.reader("r1", true)}
		p.run()
		p.modern = append(p.modern, w.member("m1"))
		p.run()
		before, generation := p.holdings(), p.readers[0].generation
		after := w.restarted()
		p.audience, p.readers[0].w = after, after
		p.run()
		if p.holdings() != before || p.readers[0].generation != generation {
			t.Errorf("before the restart %s at %d, after it %s at %d", before, generation, p.holdings(), p.readers[0].generation)
		}
		d, err := after.c.Consumers().Describe(groupName)
		if err != nil || len(d.Members) != 2 || slices.ContainsFunc(d.Members, func(m ConsumerMemberDescription) bool { return m.Classic == (m.MemberID == "m1") }) {
			t.Errorf("%+v, %v", d, err)
		}
		// The reader falls silent: its session is over after its own timeout, not after the broker's.
		p.readers = nil
		time.Sleep(9 * time.Second)
		p.modern[0].want(nil)
		if len(after.describe().Members) != 2 {
			t.Error("the reader's session was over too early")
		}
		time.Sleep(2 * time.Second)
		p.run()
		after.close()
	})
}

// TestMigrationPolicy: a group with members stays what it is where the policy says so.
func TestMigrationPolicy(t *testing.T) {
	for policy, want := range map[MigrationPolicy]struct {
		up   error
		down string
	}{
		MigrateBoth: {nil, TypeClassic}, MigrateUp: {nil, TypeConsumer},
		MigrateDown: {ErrGroupNotFound, TypeClassic}, MigrateNot: {ErrGroupNotFound, TypeConsumer},
	} {
		inAudience(t, func(w *audience) {
			w.c.migration = policy
			p := &party{audience: w, random: rand.New(rand.NewPCG(1, 1)), topic: w.topics.set("t", 4)}
			p.readers = []*reader{w.reader("r1", false)}
			p.run()
			w.member("m1").want(want.up)
			if want.up != nil {
				p.wantType(TypeClassic)
				start(func() error { return p.c.Leave(context.Background(), p.readers[0].identity(), "") }).want(t, nil)
				w.member("m1").want(nil)
				p.readers[0] = w.reader("r2", false)
			}
			p.modern = append(p.modern, w.member("m1"))
			p.run()
			if err := p.modern[0].leave(LeaveEpoch); err != nil {
				t.Fatal(err)
			}
			p.modern = nil
			if err := w.c.Heartbeat(t.Context(), p.readers[0].identity()); !errors.Is(err, ErrRebalanceInProgress) {
				t.Errorf("%s: who is left is told %v", policy, err) // not that its generation is unknown: it would drop what it holds
			}
			p.run()
			p.wantType(want.down)
		})
	}
}

// TestMixedGroupRefuses: what a member of one protocol must not do in a group of both.
func TestMixedGroupRefuses(t *testing.T) {
	inAudience(t, func(w *audience) {
		p := &party{audience: w, random: rand.New(rand.NewPCG(1, 1)), topic: w.topics.set("t", 4)}
		p.readers = []*reader{w.reader("r1", false)}
		p.readers[0].instance = "i"
		p.run()
		p.modern = append(p.modern, w.member("m1"))
		p.run()
		r := p.readers[0]
		ctx := context.Background()
		good := r.identity()
		for name, c := range map[string]struct {
			change func(*Identity)
			want   error
		}{
			"old generation": {func(i *Identity) { i.Generation-- }, ErrIllegalGeneration},
			"stranger":       {func(i *Identity) { i.MemberID, i.InstanceID = "x", "" }, ErrUnknownMember},
			"fenced":         {func(i *Identity) { i.MemberID = "x" }, ErrFencedInstance},
			"other protocol": {func(i *Identity) { i.MemberID, i.InstanceID, i.Generation = "m1", "", p.modern[0].epoch }, ErrUnknownMember},
		} {
			id := good
			c.change(&id)
			if err := w.c.Heartbeat(ctx, id); !errors.Is(err, c.want) {
				t.Errorf("%s: heartbeat: %v", name, err)
			}
			_, err := w.c.Sync(ctx, SyncRequest{Group: groupName, MemberID: id.MemberID, InstanceID: id.InstanceID, Generation: id.Generation})
			if !errors.Is(err, c.want) {
				t.Errorf("%s: sync: %v", name, err)
			}
		}
		join := JoinRequest{Group: groupName, ClientID: "c", SessionTimeout: 10 * time.Second, ProtocolType: ConsumerProtocolType}
		for name, protocols := range map[string][]Protocol{
			"none": nil, "another": {{Name: "sticky", Metadata: (&Subscription{Topics: []string{"t"}}).Encode()}}, "damaged": {{Name: "range", Metadata: []byte{0}}},
		} {
			join.Protocols = protocols
			if _, err := w.c.Join(ctx, join); !errors.Is(err, ErrInconsistentGroup) {
				t.Errorf("join with protocols %s: %v", name, err)
			}
		}
		// A static member comes back with the other protocol and takes over what it had.
		held := len(r.owned)
		p.readers = nil
		back := w.member("m2")
		back.instance = "i"
		p.modern = append(p.modern, back)
		back.want(nil)
		if back.held() != held {
			t.Errorf("the static member holds %d partitions, it held %d", back.held(), held)
		}
		if err := w.c.Heartbeat(ctx, good); !errors.Is(err, ErrFencedInstance) {
			t.Errorf("heartbeat of who was replaced: %v", err)
		}
		p.run()
		// And once more with the old one.
		again := w.reader("r2", false)
		again.instance = "i"
		p.modern, p.readers = p.modern[:1], []*reader{again}
		p.run()
	})
}

// TestCallBackIsLimited: a member that is called back and does not join in time is out.
func TestCallBackIsLimited(t *testing.T) {
	inAudience(t, func(w *audience) {
		p := &party{audience: w, random: rand.New(rand.NewPCG(1, 1)), topic: w.topics.set("t", 4)}
		p.readers = []*reader{w.reader("r1", false), w.reader("r2", false)}
		p.run()
		m := w.member("m1")
		m.want(nil)
		lazy := p.readers[0].identity()
		for range 6 { // heartbeats, but does not join
			if err := w.c.Heartbeat(t.Context(), lazy); !errors.Is(err, ErrRebalanceInProgress) {
				t.Fatalf("heartbeat: %v", err)
			}
			time.Sleep(5 * time.Second)
			m.want(nil)
		}
		time.Sleep(time.Second)
		if err := w.c.Heartbeat(t.Context(), lazy); !errors.Is(err, ErrUnknownMember) {
			t.Fatalf("heartbeat after the rebalance timeout: %v", err)
		}
	})
}
