package group

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// MigrationPolicy says whether a group with members may change its protocol
// (group.consumer.migration.policy). One without members always does when a
// member of the other protocol joins.
type MigrationPolicy string

// The policies, by Kafka's names.
const (
	MigrateBoth      MigrationPolicy = "bidirectional" // the default
	MigrateUp        MigrationPolicy = "upgrade"       // to the consumer protocol, when its first member joins
	MigrateDown      MigrationPolicy = "downgrade"     // to the classic one, when the last member of the other has left
	MigrateNot       MigrationPolicy = "disabled"
	migrationDefault                 = MigrateBoth
)

func (p MigrationPolicy) known() bool {
	return p == MigrateBoth || p == MigrateUp || p == MigrateDown || p == MigrateNot
}

// upgrade makes a consumer group of a classic one whose members stay. They hold
// what their leader gave them; whoever waits for a rebalance is told to join again.
func (g mixedGroup) upgrade() error {
	if policy := g.c.migration; g.protocolType != ConsumerProtocolType || policy != MigrateBoth && policy != MigrateUp {
		return fmt.Errorf("%w: %q is not a consumer group, and cannot become one while it has members", ErrGroupNotFound, g.id)
	}
	if len(g.members) >= g.c.maxGroupSize {
		return fmt.Errorf("%w: group %q has %d members", ErrMaxSizeReached, g.id, len(g.members))
	}
	var entries []entry
	if g.stored != nil {
		entries = append(entries, groupTombstone(g.id))
	}
	members := g.byArrival()
	for _, m := range members {
		said, _, err := classicMetadata(memberMetadata{}, m.asRequest())
		if err != nil {
			return fmt.Errorf("%w: %q cannot become a consumer group: member %s: %w", ErrGroupNotFound, g.id, m.id, err)
		}
		held, err := DecodeAssignment(m.assignment)
		if err != nil {
			return fmt.Errorf("%w: %q cannot become a consumer group: member %s: %w", ErrGroupNotFound, g.id, m.id, err)
		}
		p := g.partitionsOf(held)
		entries = append(entries, memberEntry(g.id, m.id, said), targetEntry(g.id, m.id, p),
			currentEntry(g.id, m.id, memberAssignment{epoch: g.generation, previousEpoch: g.generation, assigned: p}))
	}
	entries = append(entries, consumerEntry(g.id, consumerRecord{kind: recordGroup, epoch: g.generation}),
		consumerEntry(g.id, consumerRecord{kind: recordTarget, epoch: g.generation}))
	if err := g.write(entries...); err != nil {
		return err
	}
	g.stopTimer()
	g.waitingInitially = false
	for _, m := range members {
		g.dropMember(m, fmt.Errorf("%w: group %q has become a consumer group", ErrRebalanceInProgress, g.id))
		g.touchMember(g.consumer.members[m.id])
	}
	for id := range g.pending {
		g.dropPending(id) // members of a consumer group may bring any id
	}
	g.state, g.protocol, g.leader = StateEmpty, "", ""
	g.logMigration("group has become a consumer group", len(members))
	g.c.wake(g.id)
	return nil
}

// asRequest is what a member would join with again.
func (m *member) asRequest() *JoinRequest {
	return &JoinRequest{
		MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
		SessionTimeout: m.sessionTimeout, RebalanceTimeout: m.rebalanceTimeout, ProtocolType: m.protocolType, Protocols: m.protocols,
	}
}

// downgradeIfClassic makes a classic group of a consumer group in which nobody
// speaks the consumer protocol any more. Its members hold what they held and rebalance.
func (g mixedGroup) downgradeIfClassic(reason string) error {
	if policy := g.c.migration; policy != MigrateBoth && policy != MigrateDown || !g.lacksModern() {
		return nil
	}
	s, epoch := g.consumer, g.consumer.epoch
	var entries []entry
	var members []*member
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		m := s.members[id]
		entries = append(entries, g.memberTombstones(m)...)
		members = append(members, &member{
			id: m.id, instanceID: m.instanceID, clientID: m.clientID, clientHost: m.clientHost,
			sessionTimeout: m.classic.session, rebalanceTimeout: m.rebalanceTimeout,
			protocolType: ConsumerProtocolType, protocols: m.classic.protocols, assignment: g.classicAssignment(m), synced: true,
		})
	}
	entries = append(entries, g.consumerTombstones()...)
	entries = append(entries, groupEntry(g.id, storedGroup{
		protocolType: ConsumerProtocolType, generation: epoch, protocol: members[0].protocols[0].Name, leader: members[0].id, changed: time.Now(),
	}))
	left := s.members
	if err := g.write(entries...); err != nil {
		return err
	}
	for _, m := range left {
		m.stopTimers()
	}
	g.generation, g.state = epoch, StateStable
	for _, m := range members {
		g.addMember(m)
		g.touch(m)
	}
	g.protocol = g.vote()
	g.logMigration("group has become a classic group", len(members))
	g.prepareRebalance(reason)
	return nil
}
