package catalog

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

// TestAChangeIsDecidedByWhatEverybodyStored: a rival stores while the first decides; the
// first decides again and sees it, whether it is about the same deployment or another.
func TestAChangeIsDecidedByWhatEverybodyStored(t *testing.T) {
	l := &memoryLog{}
	a, b := open(t, l), open(t, l)
	m := put(t, a, Module, []byte("m"))
	l.rival = func() {
		store(t, b, spec("other", m))
		store(t, b, spec("same", m))
	}
	seen := 0
	got, err := a.Change(t.Context(), "same", func(before Deployment, exists bool, others []deploy.Spec) (*deploy.Spec, error) {
		seen++
		if !exists {
			s := spec("same", m)
			s.By = "a"
			return &s, nil
		}
		if len(others) != 1 || others[0].Name != "other" {
			t.Errorf("the others are %v", others)
		}
		s := before.Spec
		s.Version, s.By = s.Version+1, "a"
		return &s, nil
	})
	if err != nil || seen != 2 || got.Spec.Version != 2 {
		t.Errorf("decided %d times, stored %+v, %v", seen, got.Spec, err)
	}
	for name, c := range map[string]*Catalog{"first": a, "rival": b, "late": open(t, l)} {
		if err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		found := deployments(c)
		if len(found) != 2 || found["same"].By != "a" || len(c.Versions("same")) != 1 {
			t.Errorf("%s has %v", name, found)
		}
	}
}

func TestAChangeThatIsRefusedStoresNothing(t *testing.T) {
	l := &memoryLog{}
	c := open(t, l)
	m := put(t, c, Module, []byte("m"))
	before := l.end
	refused := errors.New("refused")
	gone := module.DigestOf([]byte("gone"))
	for name, d := range map[string]struct {
		decide func() (*deploy.Spec, error)
		is     error
	}{
		"an error":       {func() (*deploy.Spec, error) { return nil, refused }, refused},
		"nothing to do":  {func() (*deploy.Spec, error) { return nil, nil }, nil},
		"unknown module": {func() (*deploy.Spec, error) { s := spec("a", gone); return &s, nil }, ErrNotFound},
		"unknown asset": {func() (*deploy.Spec, error) {
			s := spec("a", m)
			s.Assets = map[string]string{"x": gone.String()}
			return &s, nil
		}, ErrNotFound},
	} {
		_, err := c.Change(t.Context(), "a", func(Deployment, bool, []deploy.Spec) (*deploy.Spec, error) { return d.decide() })
		if !errors.Is(err, d.is) || l.end != before {
			t.Errorf("%s: %v, %d records", name, err, l.end-before)
		}
	}
}

// TestVersionsAreKept: the last ten that were replaced, with their modules, until the deployment is deleted.
func TestVersionsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryLog{}
		c := open(t, l)
		const last = KeptVersions + 5
		for v := 1; v <= last; v++ {
			s := spec("a", put(t, c, Module, []byte{byte(v)}))
			s.Version = v
			store(t, c, s)
			s.State = deploy.Paused // not a version of its own
			store(t, c, s)
		}
		store(t, c, spec("a/1", put(t, c, Module, []byte("other"))))
		time.Sleep(2 * GracePeriod)
		if n, err := c.Collect(t.Context()); n != last-KeptVersions-1 || err != nil {
			t.Errorf("%d modules were garbage (%v), want those of the %d versions that are not kept", n, err, last-KeptVersions-1)
		}
		l.compact()
		c = open(t, l)
		var kept []int
		for _, v := range c.Versions("a") {
			kept = append(kept, v.Spec.Version)
			if _, err := c.Blob(Module, module.DigestOf([]byte{byte(v.Spec.Version)})); err != nil {
				t.Errorf("module of version %d: %v", v.Spec.Version, err)
			}
		}
		if want := []int{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}; !slices.Equal(kept, want) {
			t.Errorf("kept versions are %v, want %v", kept, want)
		}
		l.find("/a/7").Value = []byte("{")
		c = open(t, l)
		if v := c.Versions("a")[2]; !errors.Is(v.Err, ErrFormat) || v.Spec.Version != 7 {
			t.Errorf("the damaged version is %+v", v)
		}
		if d, _ := c.Deployment("a"); d.Err != nil || d.Spec.Version != last {
			t.Errorf("a damaged version concerns the deployment: %+v", d)
		}
		if err := c.Delete(t.Context(), "a", time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		l.compact()
		if left := open(t, l).Versions("a"); len(left) != 0 {
			t.Errorf("versions of a deleted deployment: %v", left)
		}
	})
}

// TestFollowers see what another process stores, in order, without reading twice what they know already.
func TestFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryLog{grown: make(chan struct{})}
		a, b := open(t, l), open(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Follow(ctx) }()
		synctest.Wait()
		changed := b.Changed()
		large := bytes.Repeat([]byte("large"), 500_000)
		m := put(t, a, Module, large)
		first := store(t, a, spec("a", m))
		synctest.Wait()
		select {
		case <-changed:
		default:
			t.Error("the change was not told")
		}
		if got, err := b.Blob(Module, m); err != nil || !bytes.Equal(got, large) {
			t.Errorf("the follower has %d bytes of the module, %v", len(got), err)
		}
		if d, ok := b.Deployment("a"); !ok || d.Offset != first.Offset {
			t.Errorf("the follower has %+v, want %+v", d, first)
		}
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d, _ := b.Deployment("a"); d.Offset != first.Offset {
			t.Errorf("after a refresh %+v", d)
		}
		// A deletion whose tombstone was compacted away is seen by reading everything again.
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow ended with %v", err)
		}
		if err := a.Delete(t.Context(), "a", time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		l.compact()
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := b.Deployment("a"); !ok {
			t.Error("the test does not show what it is for")
		}
		if err := b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := b.Deployment("a"); ok {
			t.Error("the deleted deployment is still there")
		}
	})
}

// TestADeploymentIsDeletedOnceAndNotItsSuccessor: who deletes means the deployment it has seen.
func TestADeploymentIsDeletedOnceAndNotItsSuccessor(t *testing.T) {
	l := &memoryLog{}
	c := open(t, l)
	s := store(t, c, spec("a", put(t, c, Module, []byte("m")))).Spec
	if err := c.Delete(t.Context(), "a", s.Created.Add(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Deployment("a"); !ok {
		t.Error("another deployment of the name was deleted")
	}
	for range 2 {
		if err := c.Delete(t.Context(), "a", s.Created, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.Deployment("a"); ok {
		t.Error("not deleted")
	}
}

// TestGarbageOfOneProcessIsTheModuleOfAnother: a deployment stored before the collection
// keeps its module, whoever stored it; one stored after it is told that it is gone.
func TestGarbageOfOneProcessIsTheModuleOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryLog{}
		a, b := open(t, l), open(t, l)
		used := put(t, a, Module, []byte("used"))
		lost := put(t, a, Module, []byte("lost"))
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * GracePeriod)
		l.rival = func() { store(t, a, spec("a", used)) }
		if n, err := b.Collect(t.Context()); n != 1 || err != nil {
			t.Errorf("%d modules were garbage (%v), want the one nobody uses", n, err)
		}
		if _, err := a.Blob(Module, used); err != nil {
			t.Error(err)
		}
		s := spec("late", lost)
		_, err := a.Change(t.Context(), "late", func(Deployment, bool, []deploy.Spec) (*deploy.Spec, error) { return &s, nil })
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "upload it") {
			t.Errorf("a deployment of a module that is gone: %v", err)
		}
	})
}

// TestUploadsRenewTheGrace for every process: it is in the log.
func TestUploadsRenewTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryLog{}
		c := open(t, l)
		m := put(t, c, Module, bytes.Repeat([]byte("large"), 500_000))
		time.Sleep(GracePeriod - time.Second)
		put(t, c, Module, bytes.Repeat([]byte("large"), 500_000))
		time.Sleep(time.Minute)
		other := open(t, l)
		if n, err := other.Collect(t.Context()); n != 0 || err != nil {
			t.Errorf("%d blobs were garbage (%v)", n, err)
		}
		if _, err := other.Blob(Module, m); err != nil {
			t.Error(err)
		}
	})
}

var _ Log = engine.Engine(nil)
