package kafka

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: v0-4
//
// Lists the table of apis.go. v3 brings name and version of the client's
// software, kept with the connection. A version above the table's gets a v0
// answer with UNSUPPORTED_VERSION, from which the client picks one (KIP-511).
//
// From v3 on it tells the features (txn_apis.go).
func (s *Service) apiVersions(_ context.Context, c *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.ApiVersionsRequest)
	resp := reply[*kmsg.ApiVersionsResponse](req)
	if req.Version >= 3 {
		if !validSoftware(req.ClientSoftwareName) || !validSoftware(req.ClientSoftwareVersion) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp, nil
		}
		c.SoftwareName, c.SoftwareVersion = req.ClientSoftwareName, req.ClientSoftwareVersion
	}
	resp.ApiKeys = s.listedKeys()
	if req.Version >= 3 {
		addFeatures(resp)
	}
	return resp, nil
}

func (s *Service) unknownApiVersions() *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(0)
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	resp.ApiKeys = s.listedKeys()
	return resp
}

func (s *Service) listedKeys() []kmsg.ApiVersionsResponseApiKey {
	var keys []kmsg.ApiVersionsResponseApiKey
	for _, a := range s.table {
		if a == nil {
			continue
		}
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.advertisedMin, a.max
		keys = append(keys, k)
	}
	return keys
}

// maxSoftwareBytes bounds what is kept of a client's own words.
const maxSoftwareBytes = 256

// validSoftware holds a name or version to KIP-511's form.
func validSoftware(v string) bool {
	return len(v) <= maxSoftwareBytes && softwareForm.MatchString(v)
}

var softwareForm = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)
