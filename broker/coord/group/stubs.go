package group

import "context"

type Coordinator struct{}

var _ coordinatorMethods = (*Coordinator)(nil)

func Open(ctx context.Context, o Options) (*Coordinator, error)                      { panic("stub") }
func (c *Coordinator) Join(ctx context.Context, r JoinRequest) (JoinResponse, error) { panic("stub") }
func (c *Coordinator) Sync(ctx context.Context, r SyncRequest) (SyncResponse, error) { panic("stub") }
func (c *Coordinator) Heartbeat(ctx context.Context, id Identity) error              { panic("stub") }
func (c *Coordinator) Leave(ctx context.Context, id Identity, reason string) error   { panic("stub") }
func (c *Coordinator) Commit(ctx context.Context, id Identity, offsets map[TopicPartition]Offset) error {
	panic("stub")
}
func (c *Coordinator) CommitAsync(ctx context.Context, id Identity, offsets map[TopicPartition]Offset, done func(error)) error {
	panic("stub")
}
func (c *Coordinator) Offsets(ctx context.Context, group string, partitions []TopicPartition) (map[TopicPartition]Offset, error) {
	panic("stub")
}
func (c *Coordinator) Describe(group string) (Description, error)     { panic("stub") }
func (c *Coordinator) List() []Listing                                { panic("stub") }
func (c *Coordinator) Delete(ctx context.Context, group string) error { panic("stub") }
func (c *Coordinator) DeleteOffsets(ctx context.Context, group string, partitions []TopicPartition) (map[TopicPartition]error, error) {
	panic("stub")
}
func (c *Coordinator) ForgetTopic(ctx context.Context, name string) error { panic("stub") }
func (c *Coordinator) Close(ctx context.Context) error                    { panic("stub") }
