package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// firstUpgrade is the lowest mark of upgrades.
const firstUpgrade = 100

// upgrades change the version of a deployment in mid-stream, one at a time. What is refused or cut off, because the
// process that was asked dies meanwhile, must do no harm.
type upgrades struct {
	t       *testing.T
	member  member
	begun   int
	done    atomic.Int64 // there was another version then
	refused atomic.Int64 // as they had to be
	running sync.WaitGroup
}

func (u *upgrades) String() string {
	return fmt.Sprintf("%d upgrades and rollbacks, of which %d were acknowledged and %d refused for their module", u.begun, u.done.Load(), u.refused.Load())
}

// begin begins one by the admin API of a process, and gives it up after limit.
func (u *upgrades) begin(ctx context.Context, adminURL string, choices *rand.Rand, limit time.Duration) {
	u.running.Wait()
	u.begun++
	own := rand.New(rand.NewPCG(choices.Uint64(), 0))
	ctx, cancel := context.WithTimeout(ctx, limit)
	u.running.Go(func() {
		defer cancel()
		done, err := u.try(ctx, adminURL, own)
		if err != nil {
			u.t.Error(err)
		}
		if done {
			u.done.Add(1)
		}
	})
}

// try makes a new version that marks its output otherwise, or goes back to the version before, or tries a module
// that does not start, which has to be refused. It reports whether there is another version now.
func (u *upgrades) try(ctx context.Context, adminURL string, choices *rand.Rand) (bool, error) {
	c, err := admin.NewClient(adminURL, nil)
	if err != nil {
		return false, err
	}
	kind, m := choices.IntN(5), u.member
	switch {
	case kind == 0 && u.done.Load() > 0:
		_, err = c.Rollback(ctx, m.name, admin.RollbackRequest{})
	case kind == 1 && u.done.Load() > 0:
		m.module = wasmtest.Guest{Setup: wasmtest.Code{}.Op(wasmtest.Unreachable)}.Bytes()
		if err = m.deploy(ctx, adminURL, deploy.DeliveryExactlyOnce); err == nil {
			return false, errors.New("a module that traps in its setup was deployed")
		}
		if p, ok := errors.AsType[*admin.Problem](err); ok && p.Status == http.StatusUnprocessableEntity {
			u.refused.Add(1)
		}
	default:
		m.module = copier(emission{0, firstUpgrade + choices.Int32N(256-firstUpgrade)})
		err = m.deploy(ctx, adminURL, deploy.DeliveryExactlyOnce)
	}
	if _, answered := errors.AsType[*admin.Problem](err); answered || errors.Is(err, admin.ErrUnreachable) || ctx.Err() != nil {
		return false, nil
	}
	return err == nil, err
}

// first makes the first version after the one that was deployed, while nothing else is disturbed.
func (u *upgrades) first(ctx context.Context, adminURL string, choices *rand.Rand) error {
	for range 10 {
		u.begin(ctx, adminURL, choices, 20*time.Second)
		u.running.Wait()
		if u.done.Load() > 0 {
			return nil
		}
	}
	return errors.New("no upgrade was acknowledged, in peace")
}
