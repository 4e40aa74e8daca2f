package txn

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// troubleInterval is how often it is logged at most that an attempt has failed which is made again and again.
const troubleInterval = 30 * time.Second

// trouble logs such attempts, of all transactions together. On a full disk a line for each would fill what is left.
type trouble struct {
	log  *slog.Logger
	last atomic.Int64 // in ns since 1970
}

func (r *trouble) warn(what string, t *transaction, err error) {
	level := slog.LevelDebug
	if last, now := r.last.Load(), time.Now().UnixNano(); now-last > int64(troubleInterval) && r.last.CompareAndSwap(last, now) {
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, what, "transactional_id", t.id, "error", err)
}
