package catalog

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/module"
)

// memoryLog is one topic as a list.
type memoryLog struct {
	mu      sync.Mutex
	records []engine.Record
	end     int64
	configs map[string]string
	fail    error
	grown   chan struct{} // closed and replaced by Append
	// rival, if set, is called once within an update, before its records are appended: somebody else is faster.
	rival func()
}

func (l *memoryLog) EnsureTopic(_ context.Context, _ string, _ int, configs map[string]string) error {
	l.configs = configs
	return nil
}

func (l *memoryLog) Append(_ context.Context, _ string, records []engine.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for _, r := range records {
		if size := len(r.Key) + len(r.Value); size > 1_000_000 {
			return fmt.Errorf("record of %d bytes", size)
		}
		r.Offset = l.end
		l.end++
		l.records = append(l.records, r)
	}
	if l.grown != nil {
		close(l.grown)
		l.grown = make(chan struct{})
	}
	return nil
}

func (l *memoryLog) Update(ctx context.Context, topic string, f func(context.Context) ([]engine.Record, error)) error {
	for {
		end := l.end
		records, err := f(ctx)
		if err != nil || len(records) == 0 {
			return err
		}
		if rival := l.rival; rival != nil {
			l.rival = nil
			rival()
		}
		if l.end == end {
			return l.Append(ctx, topic, records)
		}
	}
}

func (l *memoryLog) ReadAll(_ context.Context, _ string, from engine.Positions, f func(int32, engine.Record) error) (engine.Positions, error) {
	l.mu.Lock()
	records, end := slices.Clone(l.records), l.end
	l.mu.Unlock()
	for _, r := range records {
		if r.Offset < from[0] {
			continue
		}
		if err := f(0, r); err != nil {
			return nil, err
		}
	}
	return engine.Positions{0: end}, nil
}

func (l *memoryLog) Follow(ctx context.Context, topic string, from engine.Positions, f func(int32, engine.Record) error) error {
	for {
		l.mu.Lock()
		grown := l.grown
		l.mu.Unlock()
		at, err := l.ReadAll(ctx, topic, from, f)
		if err != nil {
			return err
		}
		from = at
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compact keeps the last record of each key, and no tombstones.
func (l *memoryLog) compact() {
	last := map[string]int{}
	for i, r := range l.records {
		last[string(r.Key)] = i
	}
	var kept []engine.Record
	for i, r := range l.records {
		if last[string(r.Key)] == i && r.Value != nil {
			kept = append(kept, r)
		}
	}
	l.records = kept
}

func (l *memoryLog) find(key string) *engine.Record {
	for i := range l.records {
		if strings.HasSuffix(string(l.records[i].Key), key) {
			return &l.records[i]
		}
	}
	return nil
}

func open(t *testing.T, l *memoryLog) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), l, "catalog")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// store stores s whatever is there.
func store(t *testing.T, c *Catalog, s deploy.Spec) Deployment {
	t.Helper()
	d, err := c.Change(t.Context(), s.Name, func(Deployment, bool, []deploy.Spec) (*deploy.Spec, error) { return &s, nil })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t *testing.T, c *Catalog, kind Kind, b []byte) module.Digest {
	t.Helper()
	d, err := c.PutBlob(t.Context(), kind, b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func spec(name string, m module.Digest) deploy.Spec {
	return deploy.Spec{
		Name: name, Version: 1, Module: m.String(), Inputs: []string{"in"}, Outputs: []deploy.Output{{Name: "out", Topic: "o"}},
		OnError: deploy.OnErrorSkip, Start: "latest", State: deploy.Running, Created: time.Unix(1, 0).UTC(), Changed: time.Unix(2, 0).UTC(),
	}
}

func deployments(c *Catalog) map[string]deploy.Spec {
	found := map[string]deploy.Spec{}
	for _, d := range c.Deployments() {
		if d.Err == nil {
			found[d.Spec.Name] = d.Spec
		}
	}
	return found
}

func TestWhatIsStoredComesBack(t *testing.T) {
	l := &memoryLog{}
	c := open(t, l)
	if l.configs["cleanup.policy"] != "compact" {
		t.Errorf("topic configs are %v", l.configs)
	}
	blobs := map[Kind][][]byte{
		Module: {[]byte("small"), bytes.Repeat([]byte("large"), 500_000), bytes.Repeat([]byte{1}, PartBytes)},
		Asset:  {{}, []byte("small")},
	}
	for kind, list := range blobs {
		for _, b := range list {
			put(t, c, kind, b)
		}
	}
	m := module.DigestOf([]byte("small"))
	want := map[string]deploy.Spec{"a": spec("a", m), "c": spec("c", m)}
	for _, name := range []string{"a", "b", "c"} {
		store(t, c, spec(name, m))
	}
	if err := c.Delete(t.Context(), "b", time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	check := func(what string, c *Catalog) {
		t.Helper()
		if diff := cmp.Diff(want, deployments(c)); diff != "" {
			t.Errorf("%s: deployments (-want +got):\n%s", what, diff)
		}
		for kind, list := range blobs {
			for _, b := range list {
				if got, err := c.Blob(kind, module.DigestOf(b)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%s: %s of %d bytes comes back as %d bytes, %v", what, kind, len(b), len(got), err)
				}
			}
		}
	}
	check("at once", c)
	check("opened again", open(t, l))
	l.compact()
	check("compacted", open(t, l))
}

func TestBlobsAreStoredOnce(t *testing.T) {
	l := &memoryLog{}
	c := open(t, l)
	put(t, c, Module, []byte("m"))
	put(t, c, Module, []byte("m"))
	if len(l.records) != 1 {
		t.Errorf("%d records for one module", len(l.records))
	}
	if _, err := c.Blob(Asset, module.DigestOf([]byte("m"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("a module is found as an asset: %v", err)
	}
}

func TestDamageConcernsOneBlobAndIsMendedByUpload(t *testing.T) {
	large := bytes.Repeat([]byte("large"), 500_000)
	for name, damage := range map[string]func(l *memoryLog){
		"flipped bit":      func(l *memoryLog) { l.find("/1").Value[100] ^= 1 },
		"missing part":     func(l *memoryLog) { l.find("/1").Key = []byte("x") },
		"short part":       func(l *memoryLog) { l.find("/1").Value = []byte{1} },
		"other part count": func(l *memoryLog) { l.find("/2").Value[7] = 9 },
		"huge part count":  func(l *memoryLog) { copy(l.find("/2").Value[4:], "\xff\xff\xff\xff") },
		"newer format":     func(l *memoryLog) { l.find("/0").Value[0] = 2 },
		"one tombstone":    func(l *memoryLog) { l.find("/0").Value = nil },
	} {
		t.Run(name, func(t *testing.T) {
			l := &memoryLog{}
			c := open(t, l)
			d := put(t, c, Module, large)
			other := put(t, c, Asset, []byte("whole"))
			damage(l)
			c = open(t, l)
			if _, err := c.Blob(Module, d); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("damaged module: %v", err)
			}
			if _, err := c.Blob(Asset, other); err != nil {
				t.Errorf("other blob: %v", err)
			}
			put(t, c, Module, large)
			if got, err := open(t, l).Blob(Module, d); err != nil || !bytes.Equal(got, large) {
				t.Errorf("uploaded again: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestUnreadableDeploymentsAreReported(t *testing.T) {
	l := &memoryLog{}
	c := open(t, l)
	m := put(t, c, Module, []byte("m"))
	for _, name := range []string{"garbage", "newer", "renamed", "sound"} {
		store(t, c, spec(name, m))
	}
	l.find("/garbage").Value = []byte("{")
	l.find("/newer").Value = []byte(`{"format":2}`)
	l.find("/renamed").Value = []byte(`{"format":1,"spec":{"name":"other"}}`)
	if err := l.Append(t.Context(), "", []engine.Record{{Key: []byte("unknown/kind"), Value: []byte("x")}, {Value: []byte("no key")}}); err != nil {
		t.Fatal(err)
	}
	c = open(t, l)
	if got := slices.Collect(maps.Keys(deployments(c))); !slices.Equal(got, []string{"sound"}) {
		t.Errorf("sound deployments are %v", got)
	}
	for _, d := range c.Deployments() {
		if d.Spec.Name != "sound" && (!errors.Is(d.Err, ErrFormat) || !strings.Contains(d.Err.Error(), d.Spec.Name)) {
			t.Errorf("%s: %v", d.Spec.Name, d.Err)
		}
	}
	if n, err := c.collect(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d blobs are called garbage while deployments cannot be read (%v)", n, err)
	}
}

func TestGarbageIsForgottenAfterItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memoryLog{}
		c := open(t, l)
		used := put(t, c, Module, []byte("used"))
		asset := put(t, c, Asset, []byte("asset"))
		unused := put(t, c, Module, bytes.Repeat([]byte("unused"), 200_000))
		s := spec("a", used)
		s.Assets = map[string]string{"x": asset.String()}
		store(t, c, s)
		collected := func(want int) {
			t.Helper()
			if n, err := c.Collect(t.Context()); n != want || err != nil {
				t.Errorf("collected %d (%v), want %d", n, err, want)
			}
		}
		collected(0)
		time.Sleep(GracePeriod + time.Second)
		collected(1)
		if _, err := c.Blob(Module, unused); !errors.Is(err, ErrNotFound) {
			t.Errorf("unused module: %v", err)
		}
		l.compact()
		if len(l.records) != 3 {
			t.Errorf("%d records after compaction, want 3", len(l.records))
		}
		if err := c.Delete(t.Context(), "a", time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		collected(2)
		if c.storedBytes != 0 {
			t.Errorf("%d bytes are counted as stored", c.storedBytes)
		}
	})
}

func TestBoundsAndFailures(t *testing.T) {
	l := &memoryLog{}
	c := open(t, l)
	if _, err := c.PutBlob(t.Context(), Module, make([]byte, MaxBlobBytes+1)); !errors.Is(err, ErrFull) {
		t.Errorf("too large a blob: %v", err)
	}
	m := put(t, c, Module, []byte("m"))
	store(t, c, spec("used", m))
	c.storedBytes = MaxStoredBytes
	if _, err := c.PutBlob(t.Context(), Module, []byte("x")); !errors.Is(err, ErrFull) {
		t.Errorf("a full catalog: %v", err)
	}
	c.storedBytes = 0
	l.fail = engine.ErrStorage
	if _, err := c.PutBlob(t.Context(), Module, []byte("x")); !errors.Is(err, engine.ErrStorage) {
		t.Errorf("a full disk: %v", err)
	}
	always := func(Deployment, bool, []deploy.Spec) (*deploy.Spec, error) { s := spec("a", m); return &s, nil }
	if _, err := c.Change(t.Context(), "a", always); !errors.Is(err, engine.ErrStorage) || len(c.Deployments()) != 1 {
		t.Errorf("a full disk: %v, %v", err, c.Deployments())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	<-c.turn
	if err := c.Delete(ctx, "a", time.Time{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("while another writes: %v", err)
	}
}

// TestTheExampleOfTheFormat reads the bytes that FORMAT.md shows.
func TestTheExampleOfTheFormat(t *testing.T) {
	document, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	l := &memoryLog{}
	c := open(t, l)
	d := put(t, c, Asset, []byte("hola"))
	text := string(document)
	for what, want := range map[string]string{
		"key":   string(l.records[0].Key),
		"value": hex.EncodeToString(l.records[0].Value),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("FORMAT.md does not show the %s %s of the example %v", what, want, d)
		}
	}
}

func FuzzReplay(f *testing.F) {
	f.Add([]byte("deployment/a"), []byte(`{"format":1,"spec":{"name":"a"}}`))
	f.Add([]byte("module/"+module.DigestOf([]byte("m")).String()+"/0"), []byte("\x01\x00\x00\x00\x00\x00\x00\x01m"))
	f.Add([]byte("asset/"+module.DigestOf(nil).String()+"/21"), []byte("\x01\x00\x00\x00\x00\x00\x00\x16"))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		c := open(t, &memoryLog{records: []engine.Record{{Key: key, Value: value}}})
		for _, d := range c.Digests(Module) {
			if b, err := c.Blob(Module, d); err != nil || module.DigestOf(b) != d {
				t.Errorf("module %v is served with other bytes (%v)", d, err)
			}
		}
	})
}
