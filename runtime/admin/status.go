package admin

import (
	"cmp"
	"slices"

	"github.com/millstream-io/millstream/runtime"
)

// statusOf is the JSON form of a status.
func statusOf(s runtime.Status) Status {
	status := Status{
		Spec: s.Spec, Phase: s.Phase, Reason: s.Reason,
		Records: s.Records, Outputs: s.Outputs, Rejected: s.Rejected, Restarts: s.Restarts, Unchanged: s.Unchanged,
	}
	if s.Module != nil && s.Module.Manifest != nil {
		status.ModuleName = s.Module.Manifest.Name
	}
	for tp, p := range s.Partitions {
		lag := p.Lag(s.Spec)
		status.Lag += lag
		status.Partitions = append(status.Partitions, PartitionStatus{
			Topic: tp.Topic, Partition: tp.Partition, Committed: p.Committed, LogEnd: p.LogEnd, Lag: lag, Running: p.Running,
		})
	}
	slices.SortFunc(status.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return status
}
