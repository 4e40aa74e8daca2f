package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterReplicaLogDirs: v1-2
//
// There is one log directory: moving a partition to it changes nothing, any
// other one is LOG_DIR_NOT_FOUND.
func (s *Service) alterReplicaLogDirs(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.AlterReplicaLogDirsRequest)
	resp := reply[*kmsg.AlterReplicaLogDirsResponse](req)
	own, _, diskErr := s.Topics.Disk()
	for i := range req.Dirs {
		dir := &req.Dirs[i]
		for j := range dir.Topics {
			t := kmsg.NewAlterReplicaLogDirsResponseTopic()
			t.Topic = dir.Topics[j].Topic
			for _, index := range dir.Topics[j].Partitions {
				_, err := s.Topics.Partition(t.Topic, index)
				if err == nil && dir.Dir != own {
					err = fmt.Errorf("%w: %q, there is %q only", kerr.LogDirNotFound, dir.Dir, own)
				}
				if err == nil {
					err = diskErr
				}
				p := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				p.Partition = index
				p.ErrorCode, _ = s.outcome("move partition to another log directory", err)
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
	}
	return resp, nil
}
