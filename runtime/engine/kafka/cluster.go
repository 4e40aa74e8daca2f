package kafka

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millstream-io/millstream/runtime/engine"
)

const (
	// metadataMaxAge is how long it may take to hear of topics that come or grow.
	metadataMaxAge = 5 * time.Second
	// configMaxAge is how long a topic's limits are taken for what they were.
	configMaxAge = time.Minute
	// retryTimeout is how long one request is tried on other connections before its caller is told.
	retryTimeout = 30 * time.Second
	// greetingTimeout is how long brokers that close connections without a word are taken for restarting ones; after
	// that they want TLS, or something else that they are not given.
	greetingTimeout = 5 * time.Second
	// defaultMessageBytes is Kafka's default of max.message.bytes.
	defaultMessageBytes = 1<<20 + 12
)

// negotiate finds out what the cluster can do and opens the engine's own client.
func (k *kafka) negotiate(ctx context.Context) error {
	probe, err := kgo.NewClient(k.options...)
	if err != nil {
		return err
	}
	defer probe.Close()
	var answer *kmsg.ApiVersionsResponse
	err = retry(ctx, greetingTimeout, func() error {
		var err error
		if answer, err = kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, probe); err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		return err
	})
	if err != nil {
		return explain(err)
	}
	for _, f := range answer.FinalizedFeatures {
		if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
			k.implicit = true
		}
	}
	versions := kversion.Stable()
	// Offsets belong to topics by name, whatever their ids: later versions carry ids instead.
	versions.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 9)
	versions.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9)
	versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 5)
	if !k.implicit {
		// The later versions would make a broker take what was never added to the transaction.
		versions.SetMaxKeyVersion(int16(kmsg.Produce), 11)
		versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4)
		versions.SetMaxKeyVersion(int16(kmsg.EndTxn), 4)
	}
	// A connection that is closed before its first answer is no matter of TLS or a login from here on: they have worked.
	k.options = append(k.options, kgo.MaxVersions(versions), kgo.AlwaysRetryEOF())
	client, err := kgo.NewClient(k.options...)
	if err != nil {
		return err
	}
	k.cluster = newCluster(client)
	return nil
}

// cluster is a client with what it knows about topics.
type cluster struct {
	client *kgo.Client

	mu     sync.Mutex
	topics map[string]topicInfo
	limits map[string]topicLimits
	// What is written to or read from is named by its id, where brokers have ids: a topic that is made anew is
	// another one, of which brokers may hear late.
	ids   map[string]topicID
	names map[topicID]string
}

type topicID [16]byte

// topicInfo is a topic as of a moment.
type topicInfo struct {
	id      topicID
	leaders []leadership // by partition
	asOf    time.Time
}

// leadership is which node leads a partition (-1: none at present), and the epoch of that, which counts up with each
// change; -1 where brokers do not tell. A broker that is told an epoch refuses what is meant for another leader: one that
// was cut off, and still takes itself for the leader, does not know what others have taken in its place (KIP-320).
type leadership struct{ node, epoch int32 }

// topicLimits is what a topic takes.
type topicLimits struct {
	maxMessageBytes int
	compacted       bool // only: records without a key are refused
	// How far, in ms, timestamps may lie behind and before the brokers' clock; they are refused beyond, unless the log has its own.
	afterMaxMillis, beforeMaxMillis int64
	ownTimestamps                   bool
	asOf                            time.Time
}

// timestamps are the bounds, in ms since 1970, within which the topic takes them now.
func (l *topicLimits) timestamps(now time.Time) (earliest, latest int64) {
	if l.ownTimestamps {
		return math.MinInt64, math.MaxInt64
	}
	ms := now.UnixMilli()
	earliest, latest = ms-min(l.beforeMaxMillis, ms), math.MaxInt64
	if l.afterMaxMillis < math.MaxInt64-ms {
		latest = ms + l.afterMaxMillis
	}
	return earliest, latest
}

func newCluster(client *kgo.Client) *cluster {
	return &cluster{client: client, topics: map[string]topicInfo{}, limits: map[string]topicLimits{},
		ids: map[string]topicID{}, names: map[topicID]string{}}
}

// id is the id of a topic as it was heard last; zero if there is none.
func (c *cluster) id(name string) topicID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[name]
}

// name is the topic that an answer is about, which has the one or the other.
func (c *cluster) name(name string, id topicID) string {
	if name != "" {
		return name
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[id]
}

// topic returns what is known, asked for again if it is older than maxAge. A topic that does not
// exist is engine.ErrUnknownTopic: no broker knows it, or none that answers for a while.
func (c *cluster) topic(ctx context.Context, name string, maxAge time.Duration) (topicInfo, error) {
	c.mu.Lock()
	info, ok := c.topics[name]
	c.mu.Unlock()
	if ok && time.Since(info.asOf) < maxAge {
		return info, nil
	}
	var p pauses
	for began := time.Now(); ; {
		found, err := c.lookup(ctx, []string{name})
		if err != nil {
			return topicInfo{}, err
		}
		if info, ok = found[name]; ok {
			return info, nil
		}
		if yes, _, silent := c.poll(ctx, name, 0); yes+silent == 0 || time.Since(began) > hearsayTime {
			return topicInfo{}, fmt.Errorf("%w: %q", engine.ErrUnknownTopic, name)
		}
		if err := p.wait(ctx); err != nil {
			return topicInfo{}, err
		}
	}
}

// lookup asks for topics; those that do not exist are left out.
func (c *cluster) lookup(ctx context.Context, names []string) (map[string]topicInfo, error) {
	var found map[string]topicInfo
	err := retry(ctx, retryTimeout, func() error {
		var err error
		found, err = c.metadata(ctx, names)
		return err
	})
	if err != nil {
		return nil, explain(err)
	}
	return found, nil
}

func (c *cluster) metadata(ctx context.Context, names []string) (map[string]topicInfo, error) {
	req := metadataRequest(names...)
	if len(req.Topics) == 0 {
		return nil, nil
	}
	answer, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, err
	}
	return c.learn(answer)
}

func metadataRequest(names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		if name == "" {
			continue // in the request that would be a topic without a name, told by its id
		}
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	return req
}

// learn takes what a broker says of topics.
func (c *cluster) learn(answer *kmsg.MetadataResponse) (map[string]topicInfo, error) {
	found := map[string]topicInfo{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range answer.Topics {
		if t.Topic == nil {
			continue
		}
		switch err := kerr.ErrorForCode(t.ErrorCode); err {
		case nil:
		case kerr.UnknownTopicOrPartition, kerr.InvalidTopicException:
			delete(c.topics, *t.Topic)
			continue
		default:
			return nil, fmt.Errorf("topic %q: %w", *t.Topic, err)
		}
		info := topicInfo{id: t.TopicID, leaders: make([]leadership, len(t.Partitions)), asOf: time.Now()}
		for _, p := range t.Partitions {
			if p.Partition >= 0 && int(p.Partition) < len(info.leaders) {
				info.leaders[p.Partition] = leadership{p.Leader, p.LeaderEpoch}
			}
		}
		if was := c.topics[*t.Topic]; was.id == info.id && info.id != (topicID{}) {
			info.keepNewer(was.leaders)
		}
		if was := c.ids[*t.Topic]; was != info.id {
			delete(c.names, was)
		}
		c.ids[*t.Topic], c.names[info.id] = info.id, *t.Topic
		c.topics[*t.Topic] = info
		found[*t.Topic] = info
	}
	return found, nil
}

// hearTime is how long a broker may take to say what it knows.
const hearTime = 3 * time.Second

// hear asks all brokers about a topic, and reports whether most of them answered.
func (c *cluster) hear(ctx context.Context, name string) bool {
	brokers := c.client.DiscoveredBrokers()
	var answers atomic.Int64
	var asking sync.WaitGroup
	for _, b := range brokers {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, hearTime)
			defer cancel()
			answer, err := b.Request(ctx, metadataRequest(name))
			if err == nil {
				_, err = c.learn(answer.(*kmsg.MetadataResponse))
			}
			if err == nil {
				answers.Add(1)
			}
		})
	}
	asking.Wait()
	return 2*int(answers.Load()) > len(brokers)
}

// keepNewer keeps what was known of the same topic and is newer: some brokers hear late of what has changed. Where that
// was wrong it goes on until all of them have heard.
func (t *topicInfo) keepNewer(was []leadership) {
	for i, l := range was {
		switch {
		case i >= len(t.leaders):
			t.leaders = append(t.leaders, l)
		case t.leaders[i].epoch >= 0 && t.leaders[i].epoch < l.epoch:
			t.leaders[i] = l
		}
	}
}

// moved says that a topic is not what it was thought to be: it is asked for again.
func (c *cluster) moved(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if info, ok := c.topics[name]; ok {
		info.asOf = time.Time{}
		c.topics[name] = info
	}
	delete(c.limits, name)
}

// epoch is the newest leader epoch of a partition that was heard of, -1 if none was.
func (c *cluster) epoch(tp engine.TopicPartition) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if leaders := c.topics[tp.Topic].leaders; tp.Partition >= 0 && int(tp.Partition) < len(leaders) {
		return leaders[tp.Partition].epoch
	}
	return -1
}

// leader returns who leads a partition.
func (c *cluster) leader(ctx context.Context, tp engine.TopicPartition) (leadership, error) {
	info, err := c.topic(ctx, tp.Topic, metadataMaxAge)
	if err == nil && (tp.Partition < 0 || int(tp.Partition) >= len(info.leaders)) {
		c.moved(tp.Topic)
		info, err = c.topic(ctx, tp.Topic, metadataMaxAge)
	}
	switch {
	case err != nil:
		return leadership{-1, -1}, err
	case tp.Partition < 0 || int(tp.Partition) >= len(info.leaders):
		return leadership{-1, -1}, fmt.Errorf("%w: %s has no partition %d", engine.ErrUnknownTopic, tp.Topic, tp.Partition)
	}
	return info.leaders[tp.Partition], nil
}

// limitsOf returns what a topic takes. Who may not read the topic's configuration is told Kafka's
// defaults; the brokers have the last word.
func (c *cluster) limitsOf(ctx context.Context, name string) (topicLimits, error) {
	c.mu.Lock()
	known, ok := c.limits[name]
	c.mu.Unlock()
	if ok && time.Since(known.asOf) < configMaxAge {
		return known, nil
	}
	limits := topicLimits{
		maxMessageBytes: defaultMessageBytes, afterMaxMillis: math.MaxInt64, beforeMaxMillis: math.MaxInt64, asOf: time.Now(),
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, name
	resource.ConfigNames = []string{
		"max.message.bytes", "cleanup.policy", "message.timestamp.type", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms",
	}
	req.Resources = append(req.Resources, resource)
	err := retry(ctx, retryTimeout, func() error {
		answer, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, r := range answer.Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil && err != kerr.TopicAuthorizationFailed {
				return err
			}
			limits.take(r.Configs)
		}
		return nil
	})
	if err != nil {
		return topicLimits{}, explain(fmt.Errorf("read the configuration of %q: %w", name, err))
	}
	c.mu.Lock()
	c.limits[name] = limits
	c.mu.Unlock()
	return limits, nil
}

func (l *topicLimits) take(configs []kmsg.DescribeConfigsResponseResourceConfig) {
	for _, config := range configs {
		switch {
		case config.Value == nil:
		case config.Name == "max.message.bytes":
			if n, err := strconv.Atoi(*config.Value); err == nil && n > 0 {
				l.maxMessageBytes = n
			}
		case config.Name == "cleanup.policy":
			l.compacted = strings.Contains(*config.Value, "compact")
		case config.Name == "message.timestamp.type":
			l.ownTimestamps = *config.Value == "LogAppendTime"
		case config.Name == "message.timestamp.after.max.ms":
			setMillis(&l.afterMaxMillis, *config.Value)
		case config.Name == "message.timestamp.before.max.ms":
			setMillis(&l.beforeMaxMillis, *config.Value)
		}
	}
}

func setMillis(to *int64, text string) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		*to = n
	}
}
