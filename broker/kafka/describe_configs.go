package kafka

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs: v1-4
//
// Every config of a topic or a group with value, source, type and text, and what
// clients look for of the broker's own, which are read-only: they are flags of the
// server. Tools such as Connect refuse to start without an answer.
//
// Omitted: loggers and client metrics as resources.
func (s *Service) describeConfigs(_ context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeConfigsRequest)
	resp := reply[*kmsg.DescribeConfigsResponse](req)
	for i := range req.Resources {
		rr := &req.Resources[i]
		res := kmsg.NewDescribeConfigsResponseResource()
		res.ResourceType, res.ResourceName = rr.ResourceType, rr.ResourceName
		var all []kmsg.DescribeConfigsResponseResourceConfig
		var err error
		switch rr.ResourceType {
		case kmsg.ConfigResourceTypeTopic:
			all, err = s.topicConfigs(rr.ResourceName, req.IncludeSynonyms)
		case kmsg.ConfigResourceTypeBroker:
			all, err = s.brokerConfigs(c, rr.ResourceName)
		case kmsg.ConfigResourceTypeGroupConfig:
			all, err = s.groupConfigs(rr.ResourceName, req.IncludeSynonyms)
		default:
			err = fmt.Errorf("%w: configs of a %s cannot be described", kerr.InvalidRequest, rr.ResourceType)
		}
		for j := range all {
			if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, all[j].Name) {
				continue
			}
			if !req.IncludeDocumentation {
				all[j].Documentation = nil
			}
			res.Configs = append(res.Configs, all[j])
		}
		res.ErrorCode, res.ErrorMessage = s.outcome("describe configs", err)
		resp.Resources = append(resp.Resources, res)
	}
	return resp, nil
}

// configSource tells where the value of a topic config comes from.
func configSource(d topic.ConfigDef, value string, fromTopic bool) kmsg.ConfigSource {
	switch {
	case fromTopic:
		return kmsg.ConfigSourceDynamicTopicConfig
	case value != d.Default:
		return kmsg.ConfigSourceStaticBrokerConfig
	default:
		return kmsg.ConfigSourceDefaultConfig
	}
}

func configType(t topic.ConfigType) kmsg.ConfigType {
	switch t {
	case topic.TypeBoolean:
		return kmsg.ConfigTypeBoolean
	case topic.TypeInt:
		return kmsg.ConfigTypeInt
	case topic.TypeLong:
		return kmsg.ConfigTypeLong
	case topic.TypeDouble:
		return kmsg.ConfigTypeDouble
	case topic.TypeList:
		return kmsg.ConfigTypeList
	default:
		return kmsg.ConfigTypeString
	}
}

func (s *Service) topicConfigs(name string, synonyms bool) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	if _, ok := s.Topics.Lookup(name); !ok {
		return nil, fmt.Errorf("%w: %q", topic.ErrUnknownTopic, name)
	}
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, d := range topic.ConfigDefs() {
		value, fromTopic := s.Topics.ConfigValue(name, d.Name)
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType, c.Documentation = d.Name, &value, configType(d.Type), &d.Doc
		c.Source = configSource(d, value, fromTopic)
		c.IsDefault = !fromTopic
		if synonyms {
			c.ConfigSynonyms = s.configSynonyms(d, value, fromTopic)
		}
		out = append(out, c)
	}
	return out, nil
}

// configSynonyms lists the values that a config has at all levels, the one that counts first.
func (s *Service) configSynonyms(d topic.ConfigDef, value string, fromTopic bool) []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	var out []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym
	add := func(value string, source kmsg.ConfigSource) {
		y := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		y.Name, y.Value, y.Source = d.Name, &value, source
		out = append(out, y)
	}
	if fromTopic {
		add(value, kmsg.ConfigSourceDynamicTopicConfig)
	}
	if v, _ := s.Topics.ConfigValue("", d.Name); v != d.Default {
		add(v, kmsg.ConfigSourceStaticBrokerConfig)
	}
	add(d.Default, kmsg.ConfigSourceDefaultConfig)
	return out
}

func (s *Service) brokerConfigs(c *Client, name string) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	node := strconv.Itoa(int(s.Config.NodeID))
	if name != "" && name != node {
		return nil, fmt.Errorf("%w: there is no broker %q, only %s", kerr.InvalidRequest, name, node)
	}
	host, port := s.advertised(c)
	address := "PLAINTEXT://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
	dir, _, _ := s.Topics.Disk()
	maxBytes, _ := s.Topics.ConfigValue("", topic.ConfigMaxMessageBytes)
	policy, _ := s.Topics.ConfigValue("", topic.ConfigCleanupPolicy)
	retention, _ := s.Topics.ConfigValue("", topic.ConfigRetentionMillis)
	retentionBytes, _ := s.Topics.ConfigValue("", topic.ConfigRetentionBytes)
	segment, _ := s.Topics.ConfigValue("", topic.ConfigSegmentBytes)
	timestamps, _ := s.Topics.ConfigValue("", topic.ConfigTimestampType)
	rows := []struct {
		name, value string
		kind        kmsg.ConfigType
	}{
		{"advertised.listeners", address, kmsg.ConfigTypeString},
		{"auto.create.topics.enable", strconv.FormatBool(s.Config.AutoCreateTopics), kmsg.ConfigTypeBoolean},
		{"broker.id", node, kmsg.ConfigTypeInt},
		{"default.replication.factor", "1", kmsg.ConfigTypeInt},
		{"delete.topic.enable", "true", kmsg.ConfigTypeBoolean},
		{"listeners", address, kmsg.ConfigTypeString},
		{"log.cleanup.policy", policy, kmsg.ConfigTypeList},
		{"log.dirs", dir, kmsg.ConfigTypeString},
		{"log.message.timestamp.type", timestamps, kmsg.ConfigTypeString},
		{"log.retention.bytes", retentionBytes, kmsg.ConfigTypeLong},
		{"log.retention.ms", retention, kmsg.ConfigTypeLong},
		{"log.segment.bytes", segment, kmsg.ConfigTypeInt},
		{"message.max.bytes", maxBytes, kmsg.ConfigTypeInt},
		{"min.insync.replicas", "1", kmsg.ConfigTypeInt},
		{"node.id", node, kmsg.ConfigTypeInt},
		{"num.partitions", strconv.Itoa(s.defaultPartitions()), kmsg.ConfigTypeInt},
	}
	out := make([]kmsg.DescribeConfigsResponseResourceConfig, len(rows))
	for i, row := range rows {
		out[i] = kmsg.NewDescribeConfigsResponseResourceConfig()
		out[i].Name, out[i].Value, out[i].ConfigType = row.name, &row.value, row.kind
		out[i].ReadOnly, out[i].Source = true, kmsg.ConfigSourceStaticBrokerConfig
	}
	return out, nil
}
