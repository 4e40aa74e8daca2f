package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
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
		req := kmsg.NewPtrMetadataRequest()
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
		response, err := b.Request(ctx, req)
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

// led reports whether all partitions have a leader.
func (t topicInfo) led() bool {
	for _, leader := range t.leaders {
		if leader < 0 {
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
