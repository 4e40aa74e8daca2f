package kafka

import (
	"context"

	"github.com/millstream-io/millstream/broker/topic"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs: v1-5
//
// One directory with the sizes of the partitions asked for (null: all) and of
// what is left of the disk.
func (s *Service) describeLogDirs(_ context.Context, _ *Client, r kmsg.Request) (kmsg.Response, error) {
	req := r.(*kmsg.DescribeLogDirsRequest)
	resp := reply[*kmsg.DescribeLogDirsResponse](req)
	d := kmsg.NewDescribeLogDirsResponseDir()
	var free int64
	var err error
	d.Dir, free, err = s.Topics.Disk()
	if d.ErrorCode, _ = s.outcome("describe log directory", err); err == nil {
		d.UsableBytes = free
	}
	used := int64(0)
	for _, info := range s.Topics.List() {
		t := kmsg.NewDescribeLogDirsResponseDirTopic()
		t.Topic = info.Name
		for i := range int32(info.Partitions) {
			p, err := s.Topics.Partition(info.Name, i)
			if err != nil {
				continue // deleted meanwhile
			}
			used += p.SizeBytes()
			if !wantsLogDir(req, info, i) {
				continue
			}
			dp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			dp.Partition, dp.Size = i, p.SizeBytes()
			t.Partitions = append(t.Partitions, dp)
		}
		if len(t.Partitions) > 0 {
			d.Topics = append(d.Topics, t)
		}
	}
	if err == nil {
		d.TotalBytes = free + used
	}
	resp.Dirs = append(resp.Dirs, d)
	return resp, nil
}

func wantsLogDir(req *kmsg.DescribeLogDirsRequest, info topic.Info, index int32) bool {
	if req.Topics == nil {
		return true
	}
	for i := range req.Topics {
		if req.Topics[i].Topic != info.Name {
			continue
		}
		for _, p := range req.Topics[i].Partitions {
			if p == index {
				return true
			}
		}
	}
	return false
}
