package runtime

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// lostAnswers is a log that does what it is told and then says that it failed.
type lostAnswers struct {
	*workertest.Log
	lose      atomic.Bool
	forgotten atomic.Int32 // groups
	onUpdate  func()
}

func (l *lostAnswers) Update(ctx context.Context, name string, f func(context.Context) ([]engine.Record, error)) error {
	err := l.Log.Update(ctx, name, f)
	if l.onUpdate != nil {
		l.onUpdate()
	}
	if err == nil && l.lose.Swap(false) {
		return engine.ErrStorage
	}
	return err
}

func (l *lostAnswers) ReadAll(ctx context.Context, name string, from engine.Positions, f func(int32, engine.Record) error) (engine.Positions, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.Log.ReadAll(ctx, name, from, f)
}

func (l *lostAnswers) Members(ctx context.Context, name string) ([]engine.GroupMember, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.Log.Members(ctx, name)
}

func (l *lostAnswers) ForgetGroup(ctx context.Context, name string) error {
	l.forgotten.Add(1)
	return l.Log.ForgetGroup(ctx, name)
}

func (b *bench) openOver(e engine.Engine) {
	b.t.Helper()
	b.close()
	r, err := open(b.t.Context(), Options{Engine: e}, b.compiler)
	b.ok(err)
	b.runtime = r
}

// TestADeploymentIsStoredAndNobodyKnows: where a deployment begins stays what it is if the answer of the
// catalog was lost: the deployment is there, and "latest" must not move behind what was produced meanwhile.
func TestADeploymentIsStoredAndNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
		b.log.AppendTo("in", 0, "old")
		log := &lostAnswers{Log: b.log}
		b.openOver(log)
		s := b.version("1")
		s.Start = "latest"
		log.lose.Store(true)
		if _, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true}); !errors.Is(err, engine.ErrStorage) {
			t.Fatalf("deploy: %v", err)
		}
		if n := log.forgotten.Load(); n != 0 {
			t.Error("the offsets of a deployment that is stored were forgotten")
		}
		b.feed("new")
		b.wantValues("out", "new1")
		b.close()
	})
}

// TestUndeployGoesOnWithoutItsCaller: who goes away when the deployment is deleted leaves no offsets behind.
func TestUndeployGoesOnWithoutItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		log := &lostAnswers{Log: b.log}
		b.openOver(log)
		b.deploy("up", "in", "out")
		ctx, leave := context.WithCancel(t.Context())
		log.onUpdate = leave
		b.ok(b.runtime.Undeploy(ctx, "up"))
		log.onUpdate = nil
		b.deploy("up", "in", "out")
		b.close()
	})
}
