package kafka

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Bounds of fetch sessions. Beyond them no session is made, and clients fetch
// with full requests: slower, and just as right.
const (
	maxFetchSessions          = 1000 // as Kafka's max.incremental.fetch.session.cache.slots
	maxFetchSessionsPerClient = 8
	maxFetchSessionPartitions = 200_000
)

// fetchSessionLimits count the sessions of all connections.
type fetchSessionLimits struct {
	lastID, sessions, partitions atomic.Int32
}

// fetchSession is what a client and the broker both remember between fetches
// (KIP-227): the client names only partitions that change, the broker answers
// only those with news.
type fetchSession struct {
	id         int32
	epoch      int32 // of the next fetch
	byID       bool  // topics are named by id
	partitions []*fetchPartition
	byKey      map[fetchKey]*fetchPartition
}

// fetchKey names a partition as the client does.
type fetchKey struct {
	name  string
	id    topic.ID
	index int32
}

func (p *fetchPartition) key() fetchKey { return fetchKey{p.name, p.id, p.index} }

// fetchSessions are those of one connection, and end with it: a client that
// connects anew begins with a full fetch.
type fetchSessions struct {
	byID map[int32]*fetchSession
}

// restart handles a full fetch: it ends the session that the request names,
// and begins one if the client wants it and there is room.
func (m *fetchSessions) restart(s *Service, f *fetchPlan, req *kmsg.FetchRequest) {
	m.end(s, req.SessionID)
	if req.Version < fetchWithSession || req.SessionEpoch != 0 || len(f.partitions) == 0 || len(m.byID) >= maxFetchSessionsPerClient {
		return
	}
	limits := &s.fetchSessions
	if limits.sessions.Add(1) > maxFetchSessions {
		limits.sessions.Add(-1)
		return
	}
	x := &fetchSession{id: limits.lastID.Add(1) & (1<<31 - 1), byID: req.Version >= fetchTopicID,
		byKey: make(map[fetchKey]*fetchPartition, len(f.partitions))}
	if x.id == 0 {
		x.id = limits.lastID.Add(1) & (1<<31 - 1)
	}
	if m.byID == nil {
		m.byID = make(map[int32]*fetchSession)
	}
	m.byID[x.id] = x
	name := ""
	for _, p := range f.partitions {
		if p.name != name {
			name = strings.Clone(p.name) // it aliases the request
		}
		p.name = name
		x.add(p)
	}
	if limits.partitions.Add(int32(len(x.partitions))) > maxFetchSessionPartitions {
		m.end(s, x.id)
		return
	}
	f.session, f.sessionID = x, x.id
}

// resume handles an incremental fetch: what the request adds, changes and
// forgets is applied to its session, of which the rest is fetched too.
func (m *fetchSessions) resume(s *Service, f *fetchPlan, req *kmsg.FetchRequest) error {
	x := m.byID[req.SessionID]
	switch {
	case x == nil:
		return fmt.Errorf("%w: %d", kerr.FetchSessionIDNotFound, req.SessionID)
	case req.SessionEpoch != x.epoch:
		return fmt.Errorf("%w: %d of session %d, which is at %d", kerr.InvalidFetchSessionEpoch, req.SessionEpoch, x.id, x.epoch)
	case x.byID != (req.Version >= fetchTopicID):
		m.end(s, x.id)
		return fmt.Errorf("%w: session %d", kerr.FetchSessionTopicIDError, req.SessionID)
	}
	before := len(x.partitions)
	x.update(req)
	if s.fetchSessions.partitions.Add(int32(len(x.partitions)-before)) > maxFetchSessionPartitions {
		m.end(s, x.id)
		return fmt.Errorf("%w: session %d ended, sessions hold too many partitions", kerr.FetchSessionIDNotFound, req.SessionID)
	}
	if len(x.partitions) == 0 {
		m.end(s, x.id)
		return nil
	}
	f.session, f.sessionID, f.partitions, f.newsOnly = x, x.id, x.partitions, true
	return nil
}

// end forgets a session, if there is one of that id.
func (m *fetchSessions) end(s *Service, id int32) {
	if x := m.byID[id]; x != nil {
		delete(m.byID, id)
		s.fetchSessions.sessions.Add(-1)
		s.fetchSessions.partitions.Add(-int32(len(x.partitions)))
	}
}

// close forgets all sessions.
func (m *fetchSessions) close(s *Service) {
	for id := range m.byID {
		m.end(s, id)
	}
}

// add takes a partition up; one that is named twice counts once.
func (x *fetchSession) add(p *fetchPartition) {
	if x.byKey[p.key()] == nil {
		x.byKey[p.key()] = p
		x.partitions = append(x.partitions, p)
	}
}

func (x *fetchSession) update(req *kmsg.FetchRequest) {
	for i := range req.Topics {
		rt := &req.Topics[i]
		for j := range rt.Partitions {
			now := newFetchPartition(rt, &rt.Partitions[j])
			if p := x.byKey[now.key()]; p != nil {
				p.offset, p.leaderEpoch, p.maxBytes = now.offset, now.leaderEpoch, now.maxBytes
				continue
			}
			now.name = strings.Clone(now.name) // it aliases the request
			x.add(&now)
		}
	}
	forgotten := false
	for i := range req.ForgottenTopics {
		rt := &req.ForgottenTopics[i]
		for _, index := range rt.Partitions {
			delete(x.byKey, fetchKey{rt.Topic, rt.TopicID, index})
			forgotten = true
		}
	}
	if !forgotten {
		return
	}
	kept := x.partitions[:0]
	for _, p := range x.partitions {
		if x.byKey[p.key()] == p {
			kept = append(kept, p)
		}
	}
	clear(x.partitions[len(kept):])
	x.partitions = kept
}

// answered notes what was told and gets the session ready for the next fetch. Partitions that were
// given records go to the end, so that all have their turn when there is more
// than one answer can hold.
func (x *fetchSession) answered() {
	if x.epoch++; x.epoch < 0 {
		x.epoch = 1
	}
	given := 0
	for _, p := range x.partitions {
		if p.answered {
			p.told = p.offsets
		}
		if p.bytes > 0 {
			given++
		}
	}
	if given == 0 || given == len(x.partitions) {
		return
	}
	order := make([]*fetchPartition, len(x.partitions))
	front, back := 0, len(order)-given
	for _, p := range x.partitions {
		if p.bytes > 0 {
			order[back] = p
			back++
		} else {
			order[front] = p
			front++
		}
	}
	x.partitions = order
}
