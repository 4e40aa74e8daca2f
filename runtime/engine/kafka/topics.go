package kafka

import (
	"context"
	"errors"
	"fmt"

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
		errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("create topic %q: %w", name, err)
	default:
		return explain(fmt.Errorf("create topic %q: %w", name, err))
	}
	return k.awaitTopic(ctx, name)
}

// awaitTopic returns when a topic has leaders, as all brokers see it: they hear of new topics one after the other.
func (k *kafka) awaitTopic(ctx context.Context, name string) error {
	var p pauses
	for {
		info, err := k.cluster.topic(ctx, name, 0)
		if err == nil && info.led() && k.cluster.known(ctx, name) {
			return nil
		}
		if p.wait(ctx) != nil {
			return fmt.Errorf("create topic %q: its partitions have no leaders: %w", name, ctx.Err())
		}
	}
}

// known reports whether all brokers that answer know a topic.
func (c *cluster) known(ctx context.Context, name string) bool {
	for _, b := range c.client.DiscoveredBrokers() {
		req := kmsg.NewPtrMetadataRequest()
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
		response, err := b.Request(ctx, req)
		if err != nil {
			continue
		}
		for _, t := range response.(*kmsg.MetadataResponse).Topics {
			if t.ErrorCode != 0 {
				return false
			}
		}
	}
	return true
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
