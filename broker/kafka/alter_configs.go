package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs: v0-2
//
// Replaces all configs that are set for a topic or a group. Configs of the broker
// are flags of the server and cannot be altered.
func (s *Service) alterConfigs(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.AlterConfigsRequest)
	resp := reply[*kmsg.AlterConfigsResponse](req)
	for i := range req.Resources {
		rr := &req.Resources[i]
		res := kmsg.NewAlterConfigsResponseResource()
		res.ResourceType, res.ResourceName = rr.ResourceType, rr.ResourceName
		err := s.alterResource(ctx, rr.ResourceType, rr.ResourceName, req.ValidateOnly, func(map[string]string) (map[string]string, error) {
			configs := make(map[string]string, len(rr.Configs))
			for _, c := range rr.Configs {
				if c.Value != nil { // null: the default
					configs[c.Name] = *c.Value
				}
			}
			return configs, nil
		})
		res.ErrorCode, res.ErrorMessage = s.outcome("alter configs", err)
		resp.Resources = append(resp.Resources, res)
	}
	return resp, nil
}

// IncrementalAlterConfigs: v0-1
//
// Sets, deletes, or for lists appends to and subtracts from single configs of
// a topic or a group.
func (s *Service) incrementalAlterConfigs(ctx context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.IncrementalAlterConfigsRequest)
	resp := reply[*kmsg.IncrementalAlterConfigsResponse](req)
	for i := range req.Resources {
		rr := &req.Resources[i]
		res := kmsg.NewIncrementalAlterConfigsResponseResource()
		res.ResourceType, res.ResourceName = rr.ResourceType, rr.ResourceName
		err := s.alterResource(ctx, rr.ResourceType, rr.ResourceName, req.ValidateOnly, func(configs map[string]string) (map[string]string, error) {
			for j := range rr.Configs {
				if err := s.alterOne(rr.ResourceType, rr.ResourceName, configs, &rr.Configs[j]); err != nil {
					return nil, err
				}
			}
			return configs, nil
		})
		res.ErrorCode, res.ErrorMessage = s.outcome("alter configs", err)
		resp.Resources = append(resp.Resources, res)
	}
	return resp, nil
}

// alterResource replaces the configs of a topic or a group by what change makes of a copy of them.
func (s *Service) alterResource(ctx context.Context, kind kmsg.ConfigResourceType, name string, validateOnly bool, change func(map[string]string) (map[string]string, error)) error {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.alterTopic(ctx, name, validateOnly, change)
	case kmsg.ConfigResourceTypeGroupConfig:
		return s.Groups.Consumers().ChangeConfigs(ctx, name, validateOnly, change)
	}
	return fmt.Errorf("%w: configs of a %s cannot be altered, only a topic's or a group's; the broker's are flags of the server", kerr.InvalidRequest, kind)
}

func (s *Service) alterTopic(ctx context.Context, name string, validateOnly bool, change func(map[string]string) (map[string]string, error)) error {
	if reserved(name) {
		return fmt.Errorf("%w: %q is the broker's own", topic.ErrInvalidName, name)
	}
	s.configChanges.Lock()
	defer s.configChanges.Unlock()
	info, ok := s.Topics.Lookup(name)
	if !ok {
		return fmt.Errorf("%w: %q", topic.ErrUnknownTopic, name)
	}
	configs := maps.Clone(info.Configs)
	if configs == nil {
		configs = make(map[string]string)
	}
	configs, err := change(configs)
	if err != nil {
		return err
	}
	if validateOnly {
		return s.Topics.ValidateConfigs(configs)
	}
	return s.Topics.SetConfigs(ctx, name, configs)
}

func (s *Service) alterOne(kind kmsg.ConfigResourceType, name string, configs map[string]string, c *kmsg.IncrementalAlterConfigsRequestResourceConfig) error {
	if kind == kmsg.ConfigResourceTypeGroupConfig {
		return s.alterGroupOne(configs, c)
	}
	if c.Op == kmsg.IncrementalAlterConfigOpDelete {
		if err := s.Topics.ValidateConfigName(c.Name); err != nil {
			return err
		}
		delete(configs, c.Name)
		return nil
	}
	if c.Value == nil {
		return fmt.Errorf("%w: %s has no value", topic.ErrInvalidConfig, c.Name)
	}
	switch c.Op {
	case kmsg.IncrementalAlterConfigOpSet:
		configs[c.Name] = *c.Value
		return nil
	case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
	default:
		return fmt.Errorf("%w: operation %d on %s", kerr.InvalidRequest, c.Op, c.Name)
	}
	if !isList(c.Name) {
		return fmt.Errorf("%w: %s is no list, nothing can be appended or subtracted", topic.ErrInvalidConfig, c.Name)
	}
	present, set := configs[c.Name]
	if !set {
		present, _ = s.Topics.ConfigValue(name, c.Name)
	}
	values := slices.DeleteFunc(strings.Split(present, ","), func(v string) bool { return v == "" })
	for v := range strings.SplitSeq(*c.Value, ",") {
		values = slices.DeleteFunc(values, func(have string) bool { return have == v })
		if c.Op == kmsg.IncrementalAlterConfigOpAppend {
			values = append(values, v)
		}
	}
	configs[c.Name] = strings.Join(values, ",")
	return nil
}

func isList(name string) bool {
	return slices.ContainsFunc(topic.ConfigDefs(), func(d topic.ConfigDef) bool { return d.Name == name && d.Type == topic.TypeList })
}
