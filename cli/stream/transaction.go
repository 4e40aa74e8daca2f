package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TransactionOptions are what a client must be opened with for CommitOffsets. The versions are those in
// which offsets are added to a transaction by a request; every cluster still has them.
func TransactionOptions(id string) []kgo.Opt {
	return []kgo.Opt{kgo.TransactionalID(id), kgo.MaxVersions(kversion.V3_7_0())}
}

// CommitOffsets adds offsets of a group without members to the open transaction of the client, with
// their metadata: they are committed with the records, or not at all.
func CommitOffsets(ctx context.Context, client *kgo.Client, id, group string, offsets kadm.Offsets) error {
	producer, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, producer, epoch, group
	err = patient(ctx, func() error {
		added, err := add.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(added.ErrorCode)
	})
	if err != nil {
		return fmt.Errorf("add the group %q to the transaction: %w", group, err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group = id, producer, epoch, group
	for topic, partitions := range offsets {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		for _, o := range partitions {
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch = o.Partition, o.At, o.LeaderEpoch
			p.Metadata = kmsg.StringPtr(o.Metadata)
			t.Partitions = append(t.Partitions, p)
		}
		commit.Topics = append(commit.Topics, t)
	}
	committed, err := commit.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("commit offsets of the group %q: %w", group, err)
	}
	var errs []error
	for _, t := range committed.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				errs = append(errs, fmt.Errorf("commit the offset of %s partition %d of the group %q: %w", t.Topic, p.Partition, group, err))
			}
		}
	}
	return errors.Join(errs...)
}

// EndOffsets commits the open transaction of a client that has CommitOffsets and no records: then the
// client library knows nothing of it.
func EndOffsets(ctx context.Context, client *kgo.Client, id string) error {
	producer, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return err
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, producer, epoch, true
	ended, err := end.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("commit the transaction of %s: %w", id, err)
	}
	return nil
}

// How long, and how often, it is waited for the end of the transaction before.
const (
	endTimeout = 10 * time.Second
	endPause   = 20 * time.Millisecond
)

// patient asks until the transaction before has ended.
func patient(ctx context.Context, ask func() error) error {
	for deadline := time.Now().Add(endTimeout); ; {
		err := ask()
		if !errors.Is(err, kerr.ConcurrentTransactions) || time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(endPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
