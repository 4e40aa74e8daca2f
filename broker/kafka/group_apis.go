package kafka

// groupAPIs are the rows of the requests that the group coordinator answers.
// The minimum of 0 matters: librdkafka before 2.11.1 takes a missing version 0
// of these requests for a broker without groups.
func groupAPIs() []api {
	return []api{
		{8, "OffsetCommit", 2, 10, 2, (*Service).offsetCommit, "retention of v2-4 is ignored; after fsync"},
		{9, "OffsetFetch", 1, 10, 1, (*Service).offsetFetch, "an unknown group has committed nothing; v7 can ask for stable offsets"},
		{10, "FindCoordinator", 0, 6, 0, (*Service).findCoordinator, "this broker, for groups and transactional ids"},
		{11, "JoinGroup", 0, 9, 0, (*Service).joinGroup, "classic groups, static members"},
		{12, "Heartbeat", 0, 4, 0, (*Service).heartbeat, ""},
		{13, "LeaveGroup", 0, 5, 0, (*Service).leaveGroup, ""},
		{14, "SyncGroup", 0, 5, 0, (*Service).syncGroup, ""},
		{15, "DescribeGroups", 0, 6, 0, (*Service).describeGroups, "classic groups"},
		{16, "ListGroups", 0, 5, 0, (*Service).listGroups, ""},
		{42, "DeleteGroups", 0, 3, 0, (*Service).deleteGroups, ""},
		{47, "OffsetDelete", 0, 0, 0, (*Service).offsetDelete, ""},
		{68, "ConsumerGroupHeartbeat", 0, 1, 0, (*Service).consumerGroupHeartbeat, "assignors uniform and range; members of the classic protocol may be in the same group"},
		{69, "ConsumerGroupDescribe", 0, 1, 0, (*Service).consumerGroupDescribe, ""},
	}
}
