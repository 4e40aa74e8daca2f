// Package broker is the broker in one piece: Open it over a directory, Serve
// it on a listener, Close it. The embedded engine of the runtime uses Topics
// and Groups directly, without a socket.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/coord/txn"
	"github.com/millstream-io/millstream/broker/kafka"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/broker/wire"
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
	GroupConfigs      map[string]string     // settings of consumer groups by Kafka's names
	MaxConnections    int                   // default 10,000
	MaxPerAddress     int                   // connections from one address; default 1,000
	MaxFrameBytes     int                   // largest Produce request; default 100 MiB
	MaxOpenFiles      int                   // of the logs, about; default 4,000
	Bounds            Bounds                // of what clients can make the broker keep
	Reserve           bool                  // keep some room on the disk, so that retention and deletions work when it is full
}

// Bounds are of what clients can make the broker keep in memory, so that no
// client can fill it with fresh names. Who meets one is told POLICY_VIOLATION,
// but for producer ids, of which the most silent are forgotten. Zero values
// mean the defaults.
type Bounds struct {
	Partitions            int   // of all topics; default 50,000
	ProducerIDs           int   // remembered in all partitions; default 500,000
	Groups                int   // default 100,000
	GroupBytes            int64 // offsets, members and assignments of all groups, about; default 256 MiB
	TransactionalIDs      int   // default 100,000
	TransactionPartitions int   // in all open transactions; default 1,000,000
}

// lockName is the file whose lock says that the directory is in use.
const lockName = "LOCK"

// reserveName is the file that keeps room free, with Options.Reserve.
const reserveName = "RESERVE"

// Broker is an open broker. Its methods are safe for concurrent use.
type Broker struct {
	lock    io.Closer
	topics  *topic.Topics
	groups  *group.Coordinator
	txns    *txn.Coordinator
	service *kafka.Service
	server  *wire.Server
	metrics *metrics

	closeOnce sync.Once
	closeErr  error
}

// Open locks the directory, recovers the logs and replays the coordinators.
func Open(ctx context.Context, o Options) (*Broker, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	host, port, err := splitAdvertised(o.AdvertisedAddress)
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	b := &Broker{}
	if b.lock, err = o.FS.Lock(filepath.Join(o.Dir, lockName)); err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", o.Dir, err)
	}
	if err := b.open(ctx, &o, host, port); err != nil {
		return nil, errors.Join(err, b.release(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (b *Broker) open(ctx context.Context, o *Options, host string, port int32) (err error) {
	var reserve *commitlog.Reserve
	if o.Reserve {
		reserve = commitlog.NewReserve(o.FS, filepath.Join(o.Dir, reserveName), o.Logger)
	}
	b.topics, err = topic.Open(ctx, topic.Options{FS: o.FS, Dir: o.Dir, Logger: o.Logger, Reserve: reserve,
		Defaults: o.TopicDefaults, DefaultPartitions: o.DefaultPartitions,
		MaxPartitions: o.Bounds.Partitions, MaxProducers: o.Bounds.ProducerIDs})
	if err != nil {
		return err
	}
	groups := group.Options{Topics: b.topics, Logger: o.Logger, MaxGroups: o.Bounds.Groups, MaxBytes: o.Bounds.GroupBytes}
	if err := groups.Configure(o.GroupConfigs); err != nil {
		return err
	}
	if b.groups, err = group.Open(ctx, groups); err != nil {
		return fmt.Errorf("open group coordinator: %w", err)
	}
	if b.txns, err = txn.Open(ctx, txn.Options{Topics: b.topics, Offsets: b.groups, Logger: o.Logger,
		MaxIDs: o.Bounds.TransactionalIDs, MaxPartitions: o.Bounds.TransactionPartitions}); err != nil {
		return fmt.Errorf("open transaction coordinator: %w", err)
	}
	if err := b.forgetDeleted(ctx); err != nil {
		o.Logger.Warn("offsets of deleted topics are not forgotten", "error", err) // at the next start, then
	}
	b.service = &kafka.Service{
		Config: kafka.Config{ClusterID: b.ClusterID(), NodeID: o.NodeID, AdvertisedHost: host, AdvertisedPort: port,
			AutoCreateTopics: !o.NoAutoCreate, DefaultPartitions: o.DefaultPartitions},
		Topics: b.topics,
		Groups: b.groups,
		Logger: o.Logger,

		Transactions: b.txns,
	}
	wo := wire.Options{Handler: protocol{b.service}, Logger: o.Logger, MaxConnections: o.MaxConnections,
		MaxConnectionsPerAddress: o.MaxPerAddress, MaxFrameBytes: o.MaxFrameBytes}
	if o.Metrics != nil {
		b.metrics = newMetrics(b.topics, b.groups.Collector(b.topics), txn.NewCollector(b.txns), b.service.Name)
		if err := b.metrics.register(o.Metrics); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		wo.Observe, wo.Accepted = b.metrics.observe, b.metrics.accepted
	}
	b.server = wire.NewServer(wo)
	return nil
}

// defaultOpenFiles leaves room for 10,000 connections below the usual limit of 20,000 or more.
const defaultOpenFiles = 4000

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		return errors.New("no data directory was given")
	}
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = defaultOpenFiles
	}
	o.FS = vfs.NewPool(o.FS, o.MaxOpenFiles)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.NodeID == 0 {
		o.NodeID = 1
	}
	if o.DefaultPartitions <= 0 {
		o.DefaultPartitions = 1
	}
	return nil
}

func splitAdvertised(address string) (host string, port int32, err error) {
	if address == "" {
		return "", 0, nil
	}
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("advertised address %q: %w; want host:port", address, err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("advertised address %q: want host:port with a port from 1 to 65535", address)
	}
	return host, int32(n), nil
}

// Serve accepts connections on l until Close, then returns nil; it may be
// called for several listeners. It closes l.
func (b *Broker) Serve(l net.Listener) error {
	if err := b.server.Serve(l); !errors.Is(err, wire.ErrServerClosed) {
		return err
	}
	return nil
}

// Topics are the live topics.
func (b *Broker) Topics() *topic.Topics { return b.topics }

// Groups is the group coordinator.
func (b *Broker) Groups() *group.Coordinator { return b.groups }

// Transactions is the transaction coordinator.
func (b *Broker) Transactions() *txn.Coordinator { return b.txns }

// ClusterID is stable over restarts.
func (b *Broker) ClusterID() string { return b.topics.Metadata().ClusterID() }

// Close stops serving, answers what is in flight, makes everything durable and
// unlocks the directory. If ctx ends before all requests are answered, the
// rest is cut off, and everything is made durable all the same.
func (b *Broker) Close(ctx context.Context) error {
	b.closeOnce.Do(func() { b.closeErr = b.release(ctx) })
	return b.closeErr
}

// release undoes as much of open as was done. Whoever waits for data or for
// other members is answered first, so that the connections can end.
func (b *Broker) release(ctx context.Context) error {
	var errs []error
	if b.service != nil {
		b.service.Drain()
	}
	durable := context.WithoutCancel(ctx)
	if b.txns != nil {
		errs = append(errs, b.txns.Close(durable))
	}
	if b.groups != nil {
		errs = append(errs, b.groups.Close(durable))
	}
	if b.server != nil {
		errs = append(errs, b.server.Close(ctx))
	}
	if b.topics != nil {
		errs = append(errs, b.topics.Close(durable))
	}
	if b.metrics != nil {
		b.metrics.unregister()
	}
	return errors.Join(append(errs, b.lock.Close())...)
}
