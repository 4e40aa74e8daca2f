package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
)

// TestADeletionThatWasCutShort is brought to its end by whoever runs next; until then the name is taken, and nothing runs.
func TestADeletionThatWasCutShort(t *testing.T) {
	for _, how := range []string{"by itself", "by another delete"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				log := &dyingLog{Log: b.log}
				b.openOver(log)
				b.mustDeploy(b.version("1"))
				b.feed("a")
				updates := 0
				log.before = func() {
					updates++
					log.dying = updates == 2 // the first has stored that it is being deleted
				}
				if err := b.runtime.Undeploy(t.Context(), "d"); !errors.Is(err, errDied) {
					t.Fatalf("delete: %v", err)
				}
				b.openOver(b.log)
				if how == "by itself" {
					synctest.Wait()
				} else if err := b.runtime.Undeploy(t.Context(), "d"); err != nil && !errors.Is(err, deploy.ErrNotFound) {
					t.Error(err)
				}
				if at := b.log.Committed("d", "in", 0); at != -1 {
					t.Errorf("the group still has the offset %d", at)
				}
				b.mustDeploy(b.version("2"))
				synctest.Wait()
				b.wantValues("out", "a1", "a2")
				b.close()
			})
		})
	}
}

// TestADeletionWaitsForTheGroup: while somebody is in the group the deployment is being deleted, which is told, and can
// be changed no more; when they have left it goes.
func TestADeletionWaitsForTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustDeploy(b.version("1"))
		stranger, err := b.log.Join(t.Context(), engine.Group{Name: "d", Client: "reports-7", Inputs: []string{"in"}})
		b.ok(err)
		if err := b.runtime.Undeploy(t.Context(), "d"); !errors.Is(err, engine.ErrGroupActive) || !strings.Contains(err.Error(), "`millstream group describe d`") {
			t.Errorf("delete: %v", err)
		}
		synctest.Wait()
		s := b.status("d")
		if s.Phase != PhaseDeleting || s.Reason == "" {
			t.Errorf("phase is %s: %s", s.Phase, s.Reason)
		}
		for what, try := range map[string]func() error{
			"deploy":   func() error { _, err := b.runtime.Deploy(t.Context(), b.version("2"), DeployOptions{}); return err },
			"resume":   func() error { _, err := b.runtime.Resume(t.Context(), "d"); return err },
			"pause":    func() error { _, err := b.runtime.Pause(t.Context(), "d"); return err },
			"reset":    func() error { _, err := b.runtime.Reset(t.Context(), "d", ResetOptions{To: "earliest"}); return err },
			"rollback": func() error { _, err := b.runtime.Rollback(t.Context(), "d", 1, ""); return err },
		} {
			if err := try(); !errors.Is(err, deploy.ErrConflict) {
				t.Errorf("%s: %v", what, err)
			}
		}
		b.ok(stranger.Leave(t.Context()))
		time.Sleep(2 * retryInterval)
		synctest.Wait()
		if _, err := b.runtime.Status(t.Context(), "d"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("status: %v", err)
		}
		b.mustDeploy(b.version("3"))
		b.close()
	})
}

// TestADeploymentWithALostModuleCanBeDeleted: what it would need to run is not asked for.
func TestADeploymentWithALostModuleCanBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := b.version("1")
		b.mustDeploy(s)
		b.ok(b.log.Append(t.Context(), CatalogTopic, []engine.Record{{Key: []byte("module/" + s.Module + "/0")}}))
		synctest.Wait()
		if digest, err := deploy.ParseDigest(s.Module); err != nil {
			t.Fatal(err)
		} else if _, err := b.runtime.catalog.Blob(catalog.Module, digest); !errors.Is(err, catalog.ErrNotFound) {
			t.Fatalf("the module is there: %v", err)
		}
		b.ok(b.runtime.Undeploy(t.Context(), "d"))
		b.close()
	})
}

// silentLog does not answer when a group is to be forgotten.
type silentLog struct{ *workertest.Log }

func (silentLog) ForgetGroup(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestCloseDuringADeletion does not wait for a log that is silent: the next process goes on with the deletion.
func TestCloseDuringADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.openOver(silentLog{b.log})
		b.mustDeploy(b.version("1"))
		deleted := make(chan error, 1)
		go func() { deleted <- b.runtime.Undeploy(context.Background(), "d") }()
		synctest.Wait()
		b.close()
		if err := <-deleted; !errors.Is(err, context.Canceled) {
			t.Errorf("delete: %v", err)
		}
		b.open()
		time.Sleep(2 * retryInterval)
		synctest.Wait()
		if _, err := b.runtime.Status(t.Context(), "d"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("status: %v", err)
		}
		b.close()
	})
}
