// Package kafka is the engine over any Kafka cluster: Apache Kafka, what speaks
// its protocol, or our own broker over the network.
//
// Membership is the client library's (kgo): one client for each member, with the
// cooperative-sticky protocol. What costs CPU is done here, on whole record
// batches: fetch responses are handed to sessions as they came, and decoded straight into
// the guest's flat form; outputs are encoded straight into batches. No record becomes an
// object on the way.
//
// Exactly once: each session is a transactional producer of its own,
// "millstream-<group>-<topic>-<partition>". Whoever opens a session first initialises that
// producer, which ends what the last owner left open and fences it, then reads the
// group's stable offset. A commit sends the outputs, the offset with the member's id and
// generation (KIP-447), and the end of the transaction; where the cluster
// has transactions version 2 (KIP-890), partitions and offsets join the transaction
// implicitly. A commit without outputs is a transaction too: its epoch fences what arrives late. The
// offset carries a mark, so that a commit whose answer is lost can be looked up: the producer is
// initialised again, and the stable offset tells. With at least once, outputs go through an
// idempotent producer, and the offset follows when all are acknowledged.
//
// Reading: a reader for each broker that leads a partition asks for all of a member's partitions
// that have room. Each session buffers up to two fetches of a partition (fetchPartitionBytes), so
// one that is not polled neither grows nor keeps others waiting.
//
// A node that was cut off, or stood still, takes itself for leader and coordinator for a while when others are it already, and
// tells what was so before. Leaders are known by their epochs, which do not go back (KIP-320), a
// position that was reached moves back only if all brokers that answer know no newer leader, and the first commit of a session is
// confirmed by who took it (see confirm).
//
// Connections that break, brokers that restart and leaders that move are
// waited for, as long as the caller's context lets; nothing of it is an error before.
package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/millstream-io/millstream/runtime/engine"
)

// Options of an engine. Brokers is needed, the rest may be left zero.
type Options struct {
	// Brokers are addresses to begin with, host:port; the cluster tells of the others.
	Brokers []string
	// TLS is used for all connections; nil: plain text.
	TLS *tls.Config
	// SASL is how connections log in; without a mechanism they do not.
	SASL SASL
	// Dial makes connections; nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ClientID is what brokers call this process in logs and quotas; default "millstream".
	ClientID string
	// Logger takes what goes wrong and, at the debug level, every assignment; nil: nobody.
	Logger *slog.Logger
	// SessionTimeout and RebalanceTimeout are those of a member, as Kafka's
	// session.timeout.ms and max.poll.interval.ms; defaults 30 s and 60 s. The latter is also how long
	// a session whose partition is being taken away has to close.
	SessionTimeout, RebalanceTimeout time.Duration
	// TransactionTimeout is how long a transaction may stay open before the cluster aborts it; default 60 s.
	// It must not be more than the brokers' transaction.max.timeout.ms.
	TransactionTimeout time.Duration
}

// SASL is a login.
type SASL struct {
	Mechanism      string // plain, scram-sha-256 or scram-sha-512, in any case; "" = no login
	User, Password string
}

const (
	defaultSessionTimeout     = 30 * time.Second
	defaultRebalanceTimeout   = 60 * time.Second
	defaultTransactionTimeout = 60 * time.Second
)

// kafka is the engine: what its members share is one client for what belongs to no member.
type kafka struct {
	o       Options
	log     *slog.Logger
	options []kgo.Opt // of every client
	cluster *cluster
	// implicit: partitions and offsets join a transaction by being written to (KIP-890).
	implicit bool

	appending sync.Mutex // holds appender
	appender  *writer

	mu      sync.Mutex
	members map[*member]bool
	closed  bool
}

// New connects to a cluster and returns the engine over it with the function that closes it. At
// least one broker has to answer before ctx ends. Closing leaves all groups.
func New(ctx context.Context, o Options) (engine.Engine, func(context.Context) error, error) {
	k, err := open(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	return k, k.close, nil
}

func open(ctx context.Context, o Options) (*kafka, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("kafka: no brokers are given: name at least one as host:port")
	}
	o.ClientID = cmp.Or(o.ClientID, "millstream")
	o.SessionTimeout = cmp.Or(o.SessionTimeout, defaultSessionTimeout)
	o.RebalanceTimeout = cmp.Or(o.RebalanceTimeout, defaultRebalanceTimeout)
	o.TransactionTimeout = cmp.Or(o.TransactionTimeout, defaultTransactionTimeout)
	k := &kafka{o: o, log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), members: map[*member]bool{}}
	k.options = []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...), kgo.ClientID(o.ClientID), kgo.WithLogger(clientLog{k.log}),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.MetadataMaxAge(metadataMaxAge),
		kgo.DialTimeout(5 * time.Second), kgo.RetryTimeoutFn(func(key int16) time.Duration {
			switch kmsg.Key(key) {
			case kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.OffsetCommit:
				return 1 // not behind our back: who commits has to know of each that was not answered
			}
			return retryTimeout
		}),
	}
	if o.Dial != nil {
		k.options = append(k.options, kgo.Dialer(o.dial))
	} else if o.TLS != nil {
		k.options = append(k.options, kgo.DialTLSConfig(o.TLS))
	}
	mechanism, err := o.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		k.options = append(k.options, kgo.SASL(mechanism))
	}
	if err := k.negotiate(ctx); err != nil {
		return nil, fmt.Errorf("connect to brokers %s: %w", strings.Join(o.Brokers, ", "), err)
	}
	return k, nil
}

// dial is Dial with TLS on top, where there is TLS.
func (o *Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := o.Dial(ctx, network, address)
	if err != nil || o.TLS == nil {
		return conn, err
	}
	config := o.TLS.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			conn.Close()
			return nil, err
		}
		config.ServerName = host
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch strings.ToLower(s.Mechanism) {
	case "":
		return nil, nil
	case "plain":
		return plain.Auth{User: s.User, Pass: s.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafka: SASL mechanism %q is unknown: it is plain, scram-sha-256 or scram-sha-512", s.Mechanism)
}

// Join implements engine.Engine.
func (k *kafka) Join(_ context.Context, g engine.Group) (engine.Member, error) {
	if g.Name == "" {
		return nil, errors.New("join: the group has no name")
	}
	if len(g.Inputs) == 0 {
		return nil, fmt.Errorf("join group %q: it has no inputs", g.Name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, engine.ErrClosed
	}
	m, err := newMember(k, g)
	if err != nil {
		return nil, fmt.Errorf("join group %q: %w", g.Name, err)
	}
	k.members[m] = true
	return m, nil
}

// forget takes a member that has left off the list.
func (k *kafka) forget(m *member) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.members, m)
}

// close leaves all groups and closes all connections.
func (k *kafka) close(ctx context.Context) error {
	k.mu.Lock()
	k.closed = true
	members := make([]*member, 0, len(k.members))
	for m := range k.members {
		members = append(members, m)
	}
	k.mu.Unlock()
	errs := make([]error, len(members))
	var leaving sync.WaitGroup
	for i, m := range members {
		leaving.Go(func() { errs[i] = m.Leave(ctx) })
	}
	leaving.Wait()
	k.cluster.client.Close()
	return errors.Join(errs...)
}

// clientLog hands the client library's messages on. What it calls information or a warning is mostly
// about connections that come and go: its users hear of trouble by errors, so here it is for debugging.
type clientLog struct{ log *slog.Logger }

// Level implements kgo.Logger.
func (l clientLog) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

// Log implements kgo.Logger.
func (l clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug("kafka client: "+msg, keyvals...)
}
