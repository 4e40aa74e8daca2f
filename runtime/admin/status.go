package admin

import (
	"cmp"
	"slices"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/engine"
)

// statusOf is the JSON form of a status.
func statusOf(s runtime.Status) Status {
	c := s.Counts
	status := Status{
		Spec: s.Spec, Phase: s.Phase, Reason: s.Reason,
		Records: c.Records, Outputs: c.Outputs, Rejected: c.Rejected, DeadLetters: c.DeadLetters, Skipped: c.Skipped,
		Retries: c.Retries, Traps: c.Traps, Aborts: c.Aborts, Commits: c.Commits, Restarts: c.Restarts,
		Replacing: s.Replacing, Hints: s.Hints, Unchanged: s.Unchanged, Process: s.Process,
	}
	if s.Module != nil && s.Module.Manifest != nil {
		status.ModuleName = s.Module.Manifest.Name
	}
	for tp, p := range s.Partitions {
		one := partitionOf(tp, p)
		one.Lag = p.Lag(s.Spec)
		status.Lag += one.Lag
		status.Rate += one.Rate
		status.Partitions = append(status.Partitions, one)
	}
	slices.SortFunc(status.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for _, m := range s.Members {
		status.Members = append(status.Members, Member{Client: m.Client, Host: m.Host, Partitions: len(m.Partitions)})
	}
	return status
}

func partitionOf(tp engine.TopicPartition, p runtime.PartitionStatus) PartitionStatus {
	one := PartitionStatus{
		Topic: tp.Topic, Partition: tp.Partition, Committed: p.Committed, LogStart: p.LogStart, LogEnd: p.LogEnd,
		Running: p.Running, Owner: p.Owner, Rate: p.Rate,
	}
	w := p.Worker
	if w == nil {
		return one
	}
	one.Records, one.Outputs, one.DeadLetters, one.Completed, one.Trouble = w.Records, w.Outputs, w.DeadLetters, w.Completed, w.Trouble
	if !w.CommittedAt.IsZero() {
		one.CommittedAt = &w.CommittedAt
		one.CommitSeconds, one.LatencySeconds, one.EventAgeSeconds = w.CommitTook.Seconds(), w.Latency.Seconds(), w.EventAge.Seconds()
	}
	return one
}
