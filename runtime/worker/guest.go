package worker

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/millstream-io/millstream/runtime/host"
)

// Program makes guests. Programs adapts the host's.
type Program interface {
	Instantiate(ctx context.Context, s host.Setup, log host.LogFunc) (Guest, error)
}

// Guest is one instance of a module; *host.Instance is one. It belongs to one
// goroutine and is spent after any *host.Trap.
type Guest interface {
	Input(ctx context.Context, size int) ([]byte, error)
	Process(ctx context.Context, b host.Batch) (host.Result, error)
	// DroppedLines returns how many log lines were over the limit since it was last called.
	DroppedLines() int
	Close(ctx context.Context) error
}

// Hosted is a Program of package host.
type Hosted struct{ *host.Program }

// Instantiate implements Program.
func (h Hosted) Instantiate(ctx context.Context, s host.Setup, log host.LogFunc) (Guest, error) {
	i, err := h.Program.Instantiate(ctx, s, log)
	if err != nil {
		return nil, err
	}
	return i, nil
}

var _ Guest = (*host.Instance)(nil)

// lodger is a guest with the place its log lines come from, which is not
// known yet when a guest is made in advance.
type lodger struct {
	Guest
	source *atomic.Pointer[LogSource]
	used   bool // it has handled records
}

// instantiate makes a guest that logs for source.
func (r *release) instantiate(ctx context.Context, source *LogSource) (*lodger, error) {
	where := &atomic.Pointer[LogSource]{}
	where.Store(source)
	g, err := r.Program.Instantiate(ctx, r.Setup, func(level slog.Level, line string) {
		where.Load().Line(level, line)
	})
	if err != nil {
		return nil, err
	}
	return &lodger{Guest: g, source: where}, nil
}
