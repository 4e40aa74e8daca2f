// Package broker is the broker in one piece: Open it over a directory, Serve
// it on a listener, Close it. The embedded engine of the runtime uses Topics
// and Groups directly, without a socket.
package broker

import (
	"context"
	"log/slog"
	"net"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Options open a broker. Zero values mean the documented defaults.
type Options struct {
	FS                vfs.FS // default: the operating system's
	Dir               string
	Logger            *slog.Logger
	Metrics           prometheus.Registerer // nil: no metrics
	NodeID            int32                 // default 1
	AdvertisedAddress string                // host:port told to clients; default: the listener's
	NoAutoCreate      bool                  // do not create topics on first use
	DefaultPartitions int                   // default 1
	TopicDefaults     map[string]string     // topic configs by Kafka's names
	MaxConnections    int                   // default 10,000
	MaxFrameBytes     int                   // largest request; default 100 MiB
}

// Broker is an open broker.
type Broker struct{}

// Open locks the directory, recovers the logs and replays the coordinators.
func Open(ctx context.Context, o Options) (*Broker, error) { panic("stub") }

// Serve accepts connections on l until Close; it may be called for several listeners.
func (b *Broker) Serve(l net.Listener) error { panic("stub") }

// Topics are the live topics.
func (b *Broker) Topics() *topic.Topics { panic("stub") }

// Groups is the group coordinator.
func (b *Broker) Groups() *group.Coordinator { panic("stub") }

// ClusterID is stable over restarts.
func (b *Broker) ClusterID() string { panic("stub") }

// Close stops serving, answers what is in flight, makes everything durable and unlocks the directory.
func (b *Broker) Close(ctx context.Context) error { panic("stub") }
