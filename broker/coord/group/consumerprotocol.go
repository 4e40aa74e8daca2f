package group

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerProtocolType is the protocol type of consumer groups; their members'
// metadata and assignments have the formats of this file.
const ConsumerProtocolType = "consumer"

// ErrInvalidMetadata says that a member's subscription or assignment is not in the consumer protocol's format.
var ErrInvalidMetadata = errors.New("invalid consumer protocol metadata")

// maxConsumerMetadataBytes bounds what is decoded: decoded topics take some 30
// times the space of their smallest encoding.
const maxConsumerMetadataBytes = 4 << 20

// Subscription is what a member says of itself when it joins
// (ConsumerProtocolSubscription, version 3).
type Subscription struct {
	Topics []string
	// Owned are the partitions the member holds while it joins, from Generation
	// (KIP-429); -1 = unknown.
	Owned      []TopicPartition
	Generation int32
	UserData   []byte
}

// Encode returns the subscription as the metadata of a Protocol.
func (s *Subscription) Encode() []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version = 3
	m.Topics = s.Topics
	m.UserData = s.UserData
	m.Generation = s.Generation
	at := map[string]int{}
	for _, tp := range s.Owned {
		i, ok := at[tp.Topic]
		if !ok {
			i = len(m.OwnedPartitions)
			at[tp.Topic] = i
			m.OwnedPartitions = append(m.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: tp.Topic})
		}
		m.OwnedPartitions[i].Partitions = append(m.OwnedPartitions[i].Partitions, tp.Partition)
	}
	return m.AppendTo(nil)
}

// DecodeSubscription reads any version of the format; it keeps nothing of b.
func DecodeSubscription(b []byte) (Subscription, error) {
	if len(b) > maxConsumerMetadataBytes {
		return Subscription{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrInvalidMetadata, len(b), maxConsumerMetadataBytes)
	}
	m := kmsg.NewConsumerMemberMetadata()
	if err := m.ReadFrom(b); err != nil {
		return Subscription{}, fmt.Errorf("%w: subscription: %v", ErrInvalidMetadata, err)
	}
	s := Subscription{Topics: m.Topics, Generation: m.Generation, UserData: bytes.Clone(m.UserData)}
	if m.Version < 2 {
		s.Generation = -1
		if len(m.UserData) == 4 { // where cooperative-sticky kept it before version 2
			s.Generation = int32(m.UserData[0])<<24 | int32(m.UserData[1])<<16 | int32(m.UserData[2])<<8 | int32(m.UserData[3])
		}
	}
	for i := range m.OwnedPartitions {
		for _, p := range m.OwnedPartitions[i].Partitions {
			s.Owned = append(s.Owned, TopicPartition{Topic: m.OwnedPartitions[i].Topic, Partition: p})
		}
	}
	return s, nil
}

// EncodeAssignment returns partitions as a member's assignment (ConsumerProtocolAssignment, version 0).
func EncodeAssignment(partitions []TopicPartition) []byte {
	var a kmsg.ConsumerMemberAssignment
	at := map[string]int{}
	for _, tp := range partitions {
		i, ok := at[tp.Topic]
		if !ok {
			i = len(a.Topics)
			at[tp.Topic] = i
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: tp.Topic})
		}
		a.Topics[i].Partitions = append(a.Topics[i].Partitions, tp.Partition)
	}
	return a.AppendTo(nil)
}

// DecodeAssignment reads a member's assignment. An empty one assigns nothing.
func DecodeAssignment(b []byte) ([]TopicPartition, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > maxConsumerMetadataBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrInvalidMetadata, len(b), maxConsumerMetadataBytes)
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(b); err != nil {
		return nil, fmt.Errorf("%w: assignment: %v", ErrInvalidMetadata, err)
	}
	var partitions []TopicPartition
	for i := range a.Topics {
		for _, p := range a.Topics[i].Partitions {
			partitions = append(partitions, TopicPartition{Topic: a.Topics[i].Topic, Partition: p})
		}
	}
	return partitions, nil
}
