package txn

import (
	"fmt"
	"sync/atomic"
)

// partitions counts those of all open transactions. It is asked before and
// told afterwards, so requests side by side may go over the limit by what they bring.
type partitions struct {
	limit int64
	count atomic.Int64
}

// check refuses more than there may be.
func (p *partitions) check(more int) error {
	if there := p.count.Load(); more > 0 && there+int64(more) > p.limit {
		return fmt.Errorf("%w: %d more, there are %d and at most %d", ErrTooManyPartitions, more, there, p.limit)
	}
	return nil
}

func (p *partitions) add(n int) { p.count.Add(int64(n)) }
