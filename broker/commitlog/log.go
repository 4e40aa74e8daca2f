package commitlog

import "context"

// Log is one ordered log of batches.
type Log struct{}

var _ logMethods = (*Log)(nil)

func Open(ctx context.Context, o Options) (*Log, error)                                { panic("stub") }
func (l *Log) Append(batches []byte, leaderEpoch int32) (Appended, error)              { panic("stub") }
func (l *Log) WaitDurable(ctx context.Context, offset int64) error                     { panic("stub") }
func (l *Log) Read(dst []byte, offset int64, maxBytes int, upTo int64) ([]byte, error) { panic("stub") }
func (l *Log) Bounds() Bounds                                                          { panic("stub") }
func (l *Log) OffsetForTimestamp(ts int64) (int64, int64, bool, error)                 { panic("stub") }
func (l *Log) MaxTimestamp() (int64, int64, error)                                     { panic("stub") }
func (l *Log) AdvanceStart(offset int64) error                                         { panic("stub") }
func (l *Log) EpochEnd(epoch int32) (int32, int64)                                     { panic("stub") }
func (l *Log) LastEpoch() int32                                                        { panic("stub") }
func (l *Log) SetConfig(c Config)                                                      { panic("stub") }
func (l *Log) SizeBytes() int64                                                        { panic("stub") }
func (l *Log) Close(ctx context.Context) error                                         { panic("stub") }
func (l *Log) Remove() error                                                           { panic("stub") }
