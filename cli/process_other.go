//go:build !unix

package cli

import (
	"context"
	"os"
)

// untilClosed cannot tell here; the next write does.
func untilClosed(ctx context.Context, _ *os.File) { <-ctx.Done() }
