package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millstream-io/millstream/runtime/engine"
)

// clusterDefault is what leaves a count to the cluster.
const clusterDefault = -1

// EnsureTopic implements engine.Engine. It returns when the topic's partitions have leaders.
func (k *kafka) EnsureTopic(ctx context.Context, name string, partitions int, configs map[string]string) error {
	if partitions <= 0 {
		partitions = clusterDefault
	}
	values := make(map[string]*string, len(configs))
	for key, value := range configs {
		values[key] = &value
	}
	err := retry(ctx, retryTimeout, func() error {
		_, err := kadm.NewClient(k.cluster.client).CreateTopic(ctx, int32(partitions), clusterDefault, values, name)
		return err
	})
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
	case errors.Is(err, kerr.InvalidTopicException), errors.Is(err, kerr.InvalidConfig), errors.Is(err, kerr.InvalidPartitions),
		errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidReplicationFactor):
		return fmt.Errorf("create topic %q: %w", name, err)
	default:
		return explain(fmt.Errorf("create topic %q: %w", name, err))
	}
	return k.awaitTopic(ctx, name)
}

// awaitTopic returns when a topic has leaders, as all brokers see it: they hear of new topics one after the other.
func (k *kafka) awaitTopic(ctx context.Context, name string) error {
	var p pauses
	for began := time.Now(); ; {
		found, err := k.cluster.lookup(ctx, []string{name})
		if info := found[name]; err == nil && info.led() {
			// A broker that is away asks the others when it comes back.
			if _, no, silent := k.cluster.poll(ctx, name, len(info.leaders)); no == 0 && (silent == 0 || time.Since(began) > hearsayTime) {
				return nil
			}
		}
		if p.wait(ctx) != nil {
			return fmt.Errorf("create topic %q: its partitions have no leaders: %w", name, ctx.Err())
		}
	}
}

// poll asks all brokers whether they know a topic (with so many partitions, if that is not zero), and counts the answers.
func (c *cluster) poll(ctx context.Context, name string, partitions int) (yes, no, silent int) {
	for _, b := range c.client.DiscoveredBrokers() {
		response, err := b.Request(ctx, metadataRequest(name))
		if err != nil {
			silent++
			continue
		}
		for _, t := range response.(*kmsg.MetadataResponse).Topics {
			if t.ErrorCode == 0 && (partitions == 0 || len(t.Partitions) == partitions) {
				yes++
			} else {
				no++
			}
		}
	}
	return yes, no, silent
}

// errInputRemade: the topic that a session reads was deleted, and another one has its name now.
var errInputRemade = errors.New("the topic was made anew")

// differs reports that two ids are those of different topics. A cluster may have nodes without ids beside others, or have had
// such nodes: what has no id is no other topic.
func (id topicID) differs(from topicID) bool {
	return id != topicID{} && from != topicID{} && id != from
}

// String is how an id is written down; that of a cluster without ids is empty.
func (id topicID) String() string {
	if id == (topicID{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// markOf begins the mark of an offset: who commits, and of which topic. The offset of a topic of that name that was deleted
// says nothing about the one that was made after it.
func markOf(who string, topic topicID) string {
	if topic == (topicID{}) {
		return "millstream " + who + " "
	}
	return "millstream " + who + " " + topic.String() + " "
}

// topicOfMark is the topic that an offset was committed of, if its mark is ours and says so.
func topicOfMark(mark string) (id topicID, ok bool) {
	fields := strings.Fields(mark)
	if len(fields) != 4 || fields[0] != "millstream" {
		return id, false
	}
	b, err := base64.RawURLEncoding.DecodeString(fields[2])
	return id, err == nil && copy(id[:], b) == len(id) && len(b) == len(id)
}

// agreedID returns the id of a topic when all brokers that answer say the same: some hear late that it was made anew.
func (c *cluster) agreedID(ctx context.Context, name string) (topicID, error) {
	var p pauses
	for began := time.Now(); ; {
		heard := map[topicID]bool{}
		for _, b := range c.client.DiscoveredBrokers() {
			if info, err := c.ask(ctx, b, name); err == nil {
				heard[info] = true
			}
		}
		if len(heard) == 1 {
			found, err := c.lookup(ctx, []string{name})
			if err != nil {
				return topicID{}, err
			}
			if info, ok := found[name]; ok && heard[info.id] {
				return info.id, nil
			}
		}
		if time.Since(began) > hearsayTime {
			return topicID{}, fmt.Errorf("%w: the brokers do not agree which topic %q is", engine.ErrUnknownTopic, name)
		}
		if err := p.wait(ctx); err != nil {
			return topicID{}, err
		}
	}
}

// ask asks one broker for the id of a topic.
func (c *cluster) ask(ctx context.Context, b *kgo.Broker, name string) (topicID, error) {
	response, err := b.Request(ctx, metadataRequest(name))
	if err != nil {
		return topicID{}, err
	}
	for _, t := range response.(*kmsg.MetadataResponse).Topics {
		if t.Topic != nil && *t.Topic == name {
			return t.TopicID, kerr.ErrorForCode(t.ErrorCode)
		}
	}
	return topicID{}, kerr.UnknownTopicOrPartition
}

// Starts implements engine.Engine.
func (k *kafka) Starts(ctx context.Context, topics []string, start engine.Start) (map[string]engine.TopicStart, error) {
	found, err := k.cluster.lookup(ctx, topics)
	if err != nil {
		return nil, err
	}
	var partitions []engine.TopicPartition
	starts := map[string]engine.TopicStart{}
	for name, info := range found {
		starts[name] = engine.TopicStart{ID: info.id.String(), Offsets: make([]int64, len(info.leaders))}
		for i := range info.leaders {
			partitions = append(partitions, engine.TopicPartition{Topic: name, Partition: int32(i)})
		}
	}
	offsets, err := k.cluster.offsetsAt(ctx, partitions, start)
	if err != nil {
		return nil, err
	}
	for tp, offset := range offsets {
		starts[tp.Topic].Offsets[tp.Partition] = offset
	}
	return starts, nil
}

// led reports whether all partitions have a leader.
func (t topicInfo) led() bool {
	for _, leader := range t.leaders {
		if leader.node < 0 {
			return false
		}
	}
	return len(t.leaders) > 0
}

// Topics implements engine.Engine.
func (k *kafka) Topics(ctx context.Context, names []string) (map[string]int, error) {
	topics, err := k.cluster.lookup(ctx, names)
	if err != nil {
		return nil, err
	}
	found := make(map[string]int, len(topics))
	for name, info := range topics {
		found[name] = len(info.leaders)
	}
	return found, nil
}
