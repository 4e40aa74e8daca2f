// Package group coordinates consumer groups: membership, generations,
// assignments and committed offsets, as a state machine whose every durable
// change is a record of the internal topic __consumer_offsets (in Kafka's own
// stored format) and is applied to memory only by replaying that record.
//
// Durability: a commit is answered after its record is durable, and an offset
// is shown only once it is. Membership of classic groups is memory only: offsets and
// generations survive a restart, members do not and join again (their ids are
// never given twice, so nobody of a former life can be taken for a member).
// Members of consumer groups survive it with their epochs and assignments.
//
// Concurrency: everything is safe for concurrent use; one group never waits for
// another, and no lock is held while a request waits for other members or
// for the disk's flush.
//
// The protocols are Kafka's: the classic one with KIP-62 (rebalance timeout), KIP-345
// (static members), KIP-394 (member id required), KIP-814 (static leader keeps
// its assignment), and that of consumer groups (KIP-848, KIP-1082), in the files
// consumer_*.go; KIP-211 (expiry of offsets) for both. A group without members
// changes from one to the other when a member of the other joins. One with classic
// members becomes a consumer group with the first member of that protocol, in which both kinds live side by
// side, and a classic one again when the last of them has left (migrate.go).
package group

import (
	"errors"
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/broker/topic"
)

// OffsetsTopic is the name of the internal topic with the groups' journal.
const OffsetsTopic = "__consumer_offsets"

// Errors that a member can get; package kafka maps them to Kafka's codes.
var (
	ErrInvalidGroupID      = errors.New("invalid group id")
	ErrUnknownMember       = errors.New("unknown member id")
	ErrMemberIDRequired    = errors.New("member id required")
	ErrIllegalGeneration   = errors.New("illegal generation")
	ErrRebalanceInProgress = errors.New("rebalance in progress")
	ErrInconsistentGroup   = errors.New("inconsistent group protocol")
	ErrInvalidSession      = errors.New("invalid session timeout")
	ErrFencedInstance      = errors.New("fenced instance id")
	ErrNonEmptyGroup       = errors.New("group is not empty")
	ErrGroupNotFound       = errors.New("group not found")
	ErrSubscribedTopic     = errors.New("group is subscribed to the topic")
	ErrMetadataTooLarge    = errors.New("offset metadata too large")
	ErrMaxSizeReached      = errors.New("group has reached its maximum size")
	ErrTooManyGroups       = errors.New("too many groups")
	// ErrNoRoom says that all groups together hold as much as they may (Options.MaxBytes).
	ErrNoRoom = errors.New("the groups have no room left")
	// ErrJournal says that the journal of the groups took no record (disk full or failed).
	ErrJournal = errors.New("journal of the groups refused the write")
	ErrClosed  = errors.New("coordinator is closed")
)

// Options open a coordinator.
type Options struct {
	Topics *topic.Topics
	Logger *slog.Logger
	// InitialRebalanceDelay lets a new group wait for more members; 0 by default.
	InitialRebalanceDelay time.Duration
	MinSessionTimeout     time.Duration // default 6 s, as Kafka
	MaxSessionTimeout     time.Duration // default 30 min
	OffsetsRetention      time.Duration // default 7 days
	MaxGroupSize          int           // members of a group; default 1,000
	MaxGroups             int           // default 100,000
	// MaxBytes bounds what all groups hold in memory, by estimate: offsets with their
	// metadata, what members say of themselves, assignments; default 256 MiB.
	MaxBytes int64
	// ConsumerHeartbeatInterval and ConsumerSessionTimeout are what members of consumer
	// groups have to keep to (KIP-848); default 5 s and 45 s.
	ConsumerHeartbeatInterval time.Duration
	ConsumerSessionTimeout    time.Duration
	// Migration says whether groups with members may change their protocol; default MigrateBoth.
	Migration MigrationPolicy
	// JournalPartitions is the partition count of OffsetsTopic when it is created; default 4.
	JournalPartitions int
}

// MaxMetadataBytes bounds the metadata of a committed offset
// (offset.metadata.max.bytes of Kafka).
const MaxMetadataBytes = 4096

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Offset is a committed position.
type Offset struct {
	Offset      int64
	LeaderEpoch int32 // -1 = unknown
	Metadata    string
	CommitTime  time.Time // zero in a commit: now
}

// Protocol is one assignment strategy a member offers, with its metadata (for
// protocol type "consumer" an encoded ConsumerMemberMetadata).
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinRequest asks to become or remain a member.
type JoinRequest struct {
	Group            string
	MemberID         string // "" = new
	InstanceID       string // "" = dynamic member
	ClientID         string
	ClientHost       string
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration
	ProtocolType     string
	Protocols        []Protocol
	// RequireMemberID: answer a new dynamic member with ErrMemberIDRequired and its id (JoinGroup v4+).
	RequireMemberID bool
	// CanSkipAssign: the member understands JoinResponse.SkipAssign (JoinGroup v9+).
	CanSkipAssign bool
	Reason        string
}

// JoinResponse answers when the rebalance has collected its members.
type JoinResponse struct {
	Generation   int32
	ProtocolType string
	Protocol     string
	Leader       string
	MemberID     string
	// SkipAssign tells a returning static leader that the assignment stands and need not be computed.
	SkipAssign bool
	Members    []JoinMember // the leader gets all members
}

// JoinMember is one member as the leader sees it.
type JoinMember struct {
	MemberID, InstanceID string
	Metadata             []byte
}

// SyncRequest brings (from the leader) or asks for an assignment.
type SyncRequest struct {
	Group, MemberID, InstanceID string
	Generation                  int32
	ProtocolType, Protocol      string
	Assignments                 map[string][]byte // by member id; only the leader's count
}

// SyncResponse carries the member's assignment.
type SyncResponse struct {
	ProtocolType, Protocol string
	Assignment             []byte
}

// Identity is a member of a generation, or with Generation -1 and no member
// id a plain client outside any generation.
type Identity struct {
	Group, MemberID, InstanceID string
	Generation                  int32
}

// Description is what DescribeGroups tells.
type Description struct {
	Group, State, ProtocolType, Protocol string // State: as State.String
	Generation                           int32
	Members                              []MemberDescription
}

// MemberDescription is one member of a Description.
type MemberDescription struct {
	MemberID, InstanceID, ClientID, ClientHost string
	Metadata, Assignment                       []byte
}

// Listing is one row of ListGroups.
type Listing struct {
	Group, Type, ProtocolType, State string // Type: TypeClassic or TypeConsumer
}
