package group

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Names of the configs that a single group can have (Kafka's resource type GROUP).
const (
	GroupConfigInterval = "consumer.heartbeat.interval.ms"
	GroupConfigSession  = "consumer.session.timeout.ms"
)

// minHeartbeatInterval keeps members from being told to do nothing but heartbeat.
const minHeartbeatInterval = 100 * time.Millisecond

// GroupConfigDef defines a config of a group. Its default is the broker's.
type GroupConfigDef struct{ Name, Broker, Doc string }

// GroupConfigDefs returns the definitions, sorted by name. All are whole numbers of milliseconds.
func GroupConfigDefs() []GroupConfigDef {
	return []GroupConfigDef{
		{GroupConfigInterval, ConfigConsumerInterval, "How often members of the consumer protocol heartbeat."},
		{GroupConfigSession, ConfigConsumerSession, "How long a member of the consumer protocol may not be heard of."},
	}
}

// configStore remembers configs of groups durably.
type configStore interface {
	GroupConfigs() map[string]map[string]string
	PutGroupConfigs(ctx context.Context, group string, configs map[string]string) error
}

// configs are those that are set for groups.
type configs struct {
	store configStore

	changes sync.Mutex // one change at a time; taken before mu
	mu      sync.RWMutex
	set     map[string]map[string]string // the inner maps are never changed
}

// timing is what members of the consumer protocol of one group keep to.
type timing struct{ interval, session time.Duration }

// timingOf returns what is in force for a group.
func (a ConsumerGroups) timingOf(group string) timing { return a.timing(a.Configs(group)) }

// timing reads configs that have been validated.
func (a ConsumerGroups) timing(set map[string]string) timing {
	t := timing{a.c.consumerInterval, a.c.consumerSession}
	for name, to := range map[string]*time.Duration{GroupConfigInterval: &t.interval, GroupConfigSession: &t.session} {
		if ms, err := strconv.ParseInt(set[name], 10, 32); err == nil {
			*to = time.Duration(ms) * time.Millisecond
		}
	}
	return t
}

// Configs returns what is set for a group; it must not be changed.
func (a ConsumerGroups) Configs(group string) map[string]string {
	a.c.configs.mu.RLock()
	defer a.c.configs.mu.RUnlock()
	return a.c.configs.set[group]
}

// Configured lists the groups that have configs of their own, sorted.
func (a ConsumerGroups) Configured() []string {
	a.c.configs.mu.RLock()
	defer a.c.configs.mu.RUnlock()
	return slices.Sorted(maps.Keys(a.c.configs.set))
}

// Default returns the broker's value of a group's config.
func (a ConsumerGroups) Default(name string) string {
	d := a.c.consumerInterval
	if name == GroupConfigSession {
		d = a.c.consumerSession
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// ValidateConfigs reports whether SetConfigs would take configs.
func (a ConsumerGroups) ValidateConfigs(group string, set map[string]string) error {
	if group == "" || len(group) > maxGroupIDBytes {
		return fmt.Errorf("%w: %d bytes, allowed are 1 to %d", ErrInvalidGroupID, len(group), maxGroupIDBytes)
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if err := a.ValidateConfigName(name); err != nil {
			return err
		}
		ms, err := strconv.ParseInt(set[name], 10, 32)
		if d := time.Duration(ms) * time.Millisecond; err != nil || d < minHeartbeatInterval || d > a.c.maxSession {
			return fmt.Errorf("%w: %s is %q, want milliseconds from %d to %d", ErrInvalidConfig, name, set[name],
				minHeartbeatInterval.Milliseconds(), a.c.maxSession.Milliseconds())
		}
	}
	if t := a.timing(set); t.session <= t.interval {
		return fmt.Errorf("%w: %s of %v is not above %s of %v", ErrInvalidConfig, GroupConfigSession, t.session, GroupConfigInterval, t.interval)
	}
	return nil
}

// ValidateConfigName reports whether groups have a config of that name.
func (a ConsumerGroups) ValidateConfigName(name string) error {
	if !slices.ContainsFunc(GroupConfigDefs(), func(d GroupConfigDef) bool { return d.Name == name }) {
		return fmt.Errorf("%w: groups have no config %q, only %s and %s", ErrInvalidConfig, name, GroupConfigInterval, GroupConfigSession)
	}
	return nil
}

// ChangeConfigs replaces what is set for a group, which need not exist, by what
// change makes of a copy of it; durable on return. Members learn of it with their next heartbeat.
func (a ConsumerGroups) ChangeConfigs(ctx context.Context, group string, validateOnly bool, change func(map[string]string) (map[string]string, error)) error {
	own := &a.c.configs
	own.changes.Lock()
	defer own.changes.Unlock()
	set := maps.Clone(a.Configs(group))
	if set == nil {
		set = map[string]string{}
	}
	set, err := change(set)
	if err == nil {
		err = a.ValidateConfigs(group, set)
	}
	if err == nil && !validateOnly {
		err = own.store.PutGroupConfigs(ctx, group, set)
	}
	if err != nil || validateOnly {
		return err
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if len(set) == 0 {
		delete(own.set, group)
	} else {
		own.set[group] = set
	}
	return nil
}

// restoreConfigs takes what is remembered.
func (a ConsumerGroups) restoreConfigs(store configStore) {
	a.c.configs.store, a.c.configs.set = store, store.GroupConfigs()
}
