// Package kafka answers Kafka requests: one file per request, kmsg in, domain
// call, kmsg out. Which versions are served is one table (apis.go), from which
// the ApiVersions answer and SUPPORTED.md are made. It owns no state of its
// own beyond what a connection needs; all errors become codes in one place
// (errors.go).
package kafka

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config are the settings of the protocol layer.
type Config struct {
	ClusterID string
	NodeID    int32
	// AdvertisedHost and AdvertisedPort are told to clients; an empty host
	// means the address that the client has connected to.
	AdvertisedHost    string
	AdvertisedPort    int32
	AutoCreateTopics  bool
	DefaultPartitions int
	MaxFetchBytes     int32 // cap on what one fetch returns; default 55 MiB
}

// defaultMaxFetchBytes is Kafka's fetch.max.bytes.
const defaultMaxFetchBytes = 55 << 20

// Service answers requests. Its fields are set once, before it serves.
type Service struct {
	Config Config
	Topics *topic.Topics
	Groups *group.Coordinator
	// Transactions is the transaction coordinator.
	Transactions *txn.Coordinator
	Logger       *slog.Logger

	tableOnce sync.Once
	table     []*api // by key

	// configChanges makes "read the configs, change some, write them back" one step.
	configChanges sync.Mutex

	fetchSessions fetchSessionLimits

	lastTrouble atomic.Int64 // when the broker's own trouble was last logged, in ns

	drainMade, drainClosed sync.Once
	draining               chan struct{}
}

// Client is the connection a request came in on.
type Client struct {
	ID              string // client id of the request header
	Host            string // remote address without port
	SoftwareName    string
	SoftwareVersion string

	localHost string // what the client has connected to
	localPort int32
	out       []byte // where the response in the making goes
	watch     Watch
	sessions  fetchSessions
}

// Watch returns a context that also ends when the client is gone, until stop.
type Watch func(context.Context) (ctx context.Context, stop func())

// attend is called by a handler that is about to wait.
func (c *Client) attend(ctx context.Context) (context.Context, func()) {
	if c.watch == nil {
		return ctx, func() {}
	}
	return c.watch(ctx)
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

// encoded is a response whose handler has put its bytes into the client's buffer itself.
type encoded struct {
	kmsg.Response
	out []byte
}

// Session is one connection. It is used by one goroutine.
type Session struct {
	service *Service
	client  Client
}

// Connect begins a session. watch may be nil.
func (s *Service) Connect(remote, local net.Addr, watch Watch) *Session {
	x := &Session{service: s, client: Client{watch: watch}}
	x.client.Host, _ = splitAddress(remote)
	x.client.localHost, x.client.localPort = splitAddress(local)
	return x
}

// Close ends a session.
func (x *Session) Close() { x.client.sessions.close(x.service) }

func splitAddress(a net.Addr) (host string, port int32) {
	host, p, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	n, _ := strconv.ParseUint(p, 10, 16)
	return host, int32(n)
}

// Drain makes every request that waits for data be answered with what there is, from now on.
func (s *Service) Drain() { s.drainClosed.Do(func() { close(s.drained()) }) }

// drained is closed once the broker is about to stop.
func (s *Service) drained() chan struct{} {
	s.drainMade.Do(func() { s.draining = make(chan struct{}) })
	return s.draining
}
