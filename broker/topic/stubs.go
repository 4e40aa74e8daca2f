package topic

import "context"

type Topics struct{}

func Open(ctx context.Context, o Options) (*Topics, error) { panic("stub") }

func (t *Topics) Create(ctx context.Context, name string, partitions int, configs map[string]string) (Info, error) {
	panic("stub")
}
func (t *Topics) Delete(ctx context.Context, name string) error                   { panic("stub") }
func (t *Topics) AddPartitions(ctx context.Context, name string, total int) error { panic("stub") }
func (t *Topics) SetConfigs(ctx context.Context, name string, configs map[string]string) error {
	panic("stub")
}
func (t *Topics) Lookup(name string) (Info, bool)                        { panic("stub") }
func (t *Topics) LookupID(id ID) (Info, bool)                            { panic("stub") }
func (t *Topics) List() []Info                                           { panic("stub") }
func (t *Topics) Partition(name string, index int32) (*Partition, error) { panic("stub") }
func (t *Topics) Watch(ch chan<- struct{}) (cancel func())               { panic("stub") }
func (t *Topics) ConfigValue(name, key string) (string, bool)            { panic("stub") }
func (t *Topics) Close(ctx context.Context) error                        { panic("stub") }

// ValidateName refuses what Kafka refuses: empty, ".", "..", over 249 characters, anything but [a-zA-Z0-9._-].
func ValidateName(name string) error { panic("stub") }

type Partition struct{}

func (p *Partition) Topic() string { panic("stub") }
func (p *Partition) TopicID() ID   { panic("stub") }
func (p *Partition) Index() int32  { panic("stub") }
func (p *Partition) Append(ctx context.Context, batches []byte, from Origin) (Appended, error) {
	panic("stub")
}
func (p *Partition) WaitDurable(ctx context.Context, offset int64) error     { panic("stub") }
func (p *Partition) Read(dst []byte, o ReadOptions) ([]byte, error)          { panic("stub") }
func (p *Partition) Offsets() Offsets                                        { panic("stub") }
func (p *Partition) Notify(ch chan<- struct{}) (cancel func())               { panic("stub") }
func (p *Partition) OffsetForTimestamp(ts int64) (int64, int64, bool, error) { panic("stub") }
func (p *Partition) MaxTimestamp() (offset, timestamp int64, err error)      { panic("stub") }
func (p *Partition) DeleteRecords(before int64) (logStart int64, err error)  { panic("stub") }
func (p *Partition) LeaderEpoch() int32                                      { panic("stub") }
func (p *Partition) EpochEnd(epoch int32) (endEpoch int32, endOffset int64)  { panic("stub") }
func (p *Partition) SizeBytes() int64                                        { panic("stub") }

var (
	_ topicsMethods    = (*Topics)(nil)
	_ partitionMethods = (*Partition)(nil)
)
