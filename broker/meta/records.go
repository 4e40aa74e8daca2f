package meta

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Keys of records, see FORMAT.md.
const (
	clusterKey     = "cluster"
	producerIDsKey = "producer-ids"
	topicKey       = "topic/"
	groupKey       = "group/"
)

type clusterRecord struct {
	ID string `json:"id"`
}

type producerIDsRecord struct {
	Next int64 `json:"next"`
}

type topicRecord struct {
	ID         string            `json:"id"`
	Partitions int               `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
	Deleting   bool              `json:"deleting,omitempty"`
}

type groupRecord struct {
	Configs map[string]string `json:"configs"`
}

func now() int64 { return time.Now().UnixMilli() }

func encodeTopic(t Topic) ([]byte, error) {
	value, err := json.Marshal(topicRecord{ID: hex.EncodeToString(t.ID[:]), Partitions: t.Partitions, Configs: t.Configs, Deleting: t.Deleting})
	if err != nil {
		return nil, fmt.Errorf("encode metadata of topic %q: %w", t.Name, err)
	}
	return value, nil
}

func decodeTopic(name string, value []byte) (Topic, error) {
	var r topicRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return Topic{}, fmt.Errorf("%w: topic %q: %w", ErrCorrupt, name, err)
	}
	t := Topic{Name: name, Partitions: r.Partitions, Configs: r.Configs, Deleting: r.Deleting}
	id, err := hex.DecodeString(r.ID)
	if err != nil || len(id) != len(t.ID) {
		return Topic{}, fmt.Errorf("%w: topic %q: id %q is not 32 hexadecimal digits", ErrCorrupt, name, r.ID)
	}
	if r.Partitions < 1 {
		return Topic{}, fmt.Errorf("%w: topic %q has %d partitions", ErrCorrupt, name, r.Partitions)
	}
	copy(t.ID[:], id)
	return t, nil
}

// apply changes memory as a record says. Keys of a newer release are passed over: what they mean is not known here.
func (s *Store) apply(key, value []byte) error {
	k := string(key)
	name, isTopic := strings.CutPrefix(k, topicKey)
	group, isGroup := strings.CutPrefix(k, groupKey)
	switch {
	case isGroup && value == nil:
		delete(s.groups, group)
	case isGroup:
		var r groupRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("%w: group %q: %w", ErrCorrupt, group, err)
		}
		s.groups[group] = r.Configs
	case isTopic && value == nil:
		delete(s.topics, name)
	case isTopic:
		t, err := decodeTopic(name, value)
		if err != nil {
			return err
		}
		s.topics[name] = t
	case k == clusterKey:
		var r clusterRecord
		if err := json.Unmarshal(value, &r); err != nil || r.ID == "" {
			return fmt.Errorf("%w: cluster record %q", ErrCorrupt, value)
		}
		s.clusterID = r.ID
	case k == producerIDsKey:
		var r producerIDsRecord
		if err := json.Unmarshal(value, &r); err != nil || r.Next < 0 {
			return fmt.Errorf("%w: producer id record %q", ErrCorrupt, value)
		}
		s.producers.reserved = r.Next
	}
	return nil
}

func (s *Store) createCluster(ctx context.Context) error {
	var id [16]byte
	rand.Read(id[:])
	value, err := json.Marshal(clusterRecord{ID: base64.RawURLEncoding.EncodeToString(id[:])})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(ctx, now(), clusterKey, value)
}
