package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupConfigs describes the configs of a group, which need not exist.
func (s *Service) groupConfigs(name string, synonyms bool) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	groups := s.Groups.Consumers()
	if err := groups.ValidateConfigs(name, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", kerr.InvalidRequest, err)
	}
	set := groups.Configs(name)
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, d := range group.GroupConfigDefs() {
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		value, own := set[d.Name]
		byDefault := groups.Default(d.Name)
		c.Source, c.IsDefault = kmsg.ConfigSourceGroupConfig, false
		if !own {
			value, c.Source, c.IsDefault = byDefault, kmsg.ConfigSourceDefaultConfig, true
		}
		c.Name, c.Value, c.ConfigType, c.Documentation = d.Name, &value, kmsg.ConfigTypeInt, &d.Doc
		if synonyms {
			if own {
				c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.Name, value, kmsg.ConfigSourceGroupConfig))
			}
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(d.Broker, byDefault, kmsg.ConfigSourceDefaultConfig))
		}
		out = append(out, c)
	}
	return out, nil
}

func synonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	y := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	y.Name, y.Value, y.Source = name, &value, source
	return y
}

// alterGroupOne does one operation of IncrementalAlterConfigs on a group's configs, none of which is a list.
func (s *Service) alterGroupOne(configs map[string]string, c *kmsg.IncrementalAlterConfigsRequestResourceConfig) error {
	if err := s.Groups.Consumers().ValidateConfigName(c.Name); err != nil {
		return err
	}
	switch {
	case c.Op == kmsg.IncrementalAlterConfigOpDelete:
		delete(configs, c.Name)
	case c.Op != kmsg.IncrementalAlterConfigOpSet:
		return fmt.Errorf("%w: %s is no list, nothing can be appended or subtracted", group.ErrInvalidConfig, c.Name)
	case c.Value == nil:
		return fmt.Errorf("%w: %s has no value", group.ErrInvalidConfig, c.Name)
	default:
		configs[c.Name] = *c.Value
	}
	return nil
}

// ListConfigResources: v0-1
//
// Names what has configs: topics, the broker, and the groups for which some are
// set. v0 asks for client metrics only, which there are not.
func (s *Service) listConfigResources(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ListConfigResourcesRequest)
	resp := reply[*kmsg.ListConfigResourcesResponse](req)
	if req.Version == 0 {
		return resp, nil
	}
	add := func(kind kmsg.ConfigResourceType, names ...string) {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, int8(kind)) {
			return
		}
		for _, name := range names {
			c := kmsg.NewListConfigResourcesResponseConfigResource()
			c.Name, c.Type = name, int8(kind)
			resp.ConfigResources = append(resp.ConfigResources, c)
		}
	}
	for _, kind := range req.ResourceTypes {
		switch kmsg.ConfigResourceType(kind) {
		case kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger,
			kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig:
		default:
			resp.ErrorCode = kerr.UnsupportedVersion.Code // as Kafka answers
			return resp, nil
		}
	}
	var topics []string
	for _, info := range s.Topics.List() {
		topics = append(topics, info.Name)
	}
	node := fmt.Sprint(s.Config.NodeID)
	add(kmsg.ConfigResourceTypeTopic, topics...)
	add(kmsg.ConfigResourceTypeBroker, node)
	add(kmsg.ConfigResourceTypeBrokerLogger, node)
	add(kmsg.ConfigResourceTypeGroupConfig, s.Groups.Consumers().Configured()...)
	return resp, nil
}
