package meta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// MaxConfiguredGroups bounds the groups that have configs of their own.
const MaxConfiguredGroups = 10_000

// ErrTooManyGroups says that no more groups can have configs.
var ErrTooManyGroups = errors.New("too many groups have configs of their own")

// GroupConfigs returns the configs that are set for groups, by group. The inner maps must not be changed.
func (s *Store) GroupConfigs() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.groups)
}

// PutGroupConfigs remembers the configs of a group in place of those before; none forgets the group.
func (s *Store) PutGroupConfigs(ctx context.Context, group string, configs map[string]string) error {
	var value []byte
	if len(configs) > 0 {
		var err error
		if value, err = json.Marshal(groupRecord{Configs: configs}); err != nil {
			return fmt.Errorf("encode configs of group %q: %w", group, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.groups[group]
	switch {
	case !known && value == nil:
		return nil
	case !known && len(s.groups) >= MaxConfiguredGroups:
		return fmt.Errorf("%w: there are %d; delete those that nobody needs", ErrTooManyGroups, len(s.groups))
	}
	return s.change(ctx, now(), groupKey+group, value)
}
