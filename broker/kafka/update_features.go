package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UpdateFeatures: v0-2
//
// The levels of features belong to the program: there is one broker, and
// nobody to wait for. To ask for the level that is there is granted, anything
// else refused. Until v1 each feature has its own result; from v2 on (KIP-584)
// it is all or nothing.
//
// Omitted: the timeout; upgrade types, since nothing changes.
func (s *Service) updateFeatures(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.UpdateFeaturesRequest)
	resp := reply[*kmsg.UpdateFeaturesResponse](req)
	for i := range req.FeatureUpdates {
		u := &req.FeatureUpdates[i]
		err := checkLevel(u.Feature, u.MaxVersionLevel)
		if req.Version >= 2 {
			if err != nil {
				resp.ErrorCode, resp.ErrorMessage = s.outcome("update features", err)
				return resp, nil
			}
			continue
		}
		result := kmsg.NewUpdateFeaturesResponseResult()
		result.Feature = u.Feature
		result.ErrorCode, result.ErrorMessage = s.outcome("update features", err)
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

func checkLevel(name string, level int16) error {
	all := features()
	i := slices.IndexFunc(all, func(f feature) bool { return f.name == name })
	switch {
	case i < 0:
		return fmt.Errorf("%w: there is no feature %q", kerr.InvalidUpdateVersion, name)
	case level != all[i].level:
		return fmt.Errorf("%w: %s is at level %d and stays there, not %d", kerr.InvalidUpdateVersion, name, all[i].level, level)
	}
	return nil
}
