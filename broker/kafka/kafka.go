// Package kafka answers Kafka requests: one file per request, kmsg in, domain
// call, kmsg out. Which versions are served is one table (apis.go), from which
// the ApiVersions answer is made. It owns no state of its own beyond what a
// connection needs; all errors become codes in one place (errors.go).
package kafka

import (
	"context"
	"log/slog"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config are the settings of the protocol layer.
type Config struct {
	ClusterID         string
	NodeID            int32
	AdvertisedHost    string
	AdvertisedPort    int32
	AutoCreateTopics  bool
	DefaultPartitions int
	MaxFetchBytes     int32 // cap on what one fetch returns; default 55 MiB
}

// Service answers requests. Its fields are set once, before it serves.
type Service struct {
	Config Config
	Topics *topic.Topics
	Groups *group.Coordinator
	Logger *slog.Logger
}

// Client is the connection a request came in on.
type Client struct {
	ID              string // client id of the request header
	Host            string // remote address without port
	SoftwareName    string
	SoftwareVersion string
}

// handler answers one request. A nil response means that the client expects
// none (acks=0). An error closes the connection.
type handler func(s *Service, ctx context.Context, c *Client, req kmsg.Request) (kmsg.Response, error)

// api is one row of the table of served requests.
type api struct {
	key           int16
	name          string
	min, max      int16 // served
	advertisedMin int16 // listed in ApiVersions; Produce lists 0 and serves 3
	handle        handler
	notes         string // for SUPPORTED.md
}
