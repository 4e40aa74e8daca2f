package crashtest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/meta"
	"github.com/millstream-io/millstream/broker/segment"
	"github.com/millstream-io/millstream/broker/vfs"
)

var flipsFlag = flag.Int("crash.flips", 1000, "bits to flip, about")

// hurt is one way to damage a file; it reports whether there was anything to hurt.
type hurt struct {
	name string
	do   func(f vfs.File, size, at int64, rng *rand.Rand)
}

var hurts = []hurt{
	{"a bit is flipped", func(f vfs.File, _, at int64, rng *rand.Rand) {
		var b [1]byte
		f.ReadAt(b[:], at)
		b[0] ^= 1 << rng.IntN(8)
		f.WriteAt(b[:], at)
	}},
	{"a sector reads as zeros", func(f vfs.File, size, at int64, _ *rand.Rand) {
		from := at / 512 * 512
		f.WriteAt(make([]byte, min(512, size-from)), from)
	}},
	{"the file is cut short", func(f vfs.File, _, at int64, _ *rand.Rand) { f.Truncate(at) }},
}

// TestDamage damages a disk on which everything was synced, one place at a
// time, in every file. The broker may not care (an index is rebuilt), or say
// which file is damaged; what it must not do is lose or change something without a word.
func TestDamage(t *testing.T) {
	disk := vfs.NewMem()
	var moments atomic.Int64
	o := runWorkload(t, *seedFlag, 120, inMemory(disk), func() int { return int(moments.Add(1)) }, nil)
	if err := o.expect(never-1, 0).judge(t.Context(), inMemory(disk.Clone())); err != nil {
		t.Fatalf("before any damage: %v", err)
	}
	files := map[string]int64{}
	var total int64
	err := walk(disk, dataDir, func(path string, size int64) {
		if filepath.Base(path) != "RESERVE" { // nobody reads it, and it is larger than all others together
			files[path] = size
			total += size
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	harmless, reported, failed, kinds := 0, 0, 0, map[string]int{}
	step := max(1, total*int64(len(hurts))/int64(*flipsFlag))
	rng := rand.New(rand.NewPCG(*seedFlag, 5))
	for path, size := range files {
		for _, h := range hurts {
			for at := rng.Int64N(min(step, max(size, 1))); at < size; at += step {
				left := disk.Clone()
				f, err := left.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				h.do(f, size, at, rng)
				kept := left.Clone()
				switch err := o.expect(never-1, 0).judge(t.Context(), inMemory(left)); {
				case err == nil:
					harmless++
				case spoken(err, path):
					reported++
				default:
					t.Errorf("%s at byte %d of %s: %v", h.name, at, path, err)
					if failed++; failed > 20 {
						t.Fatalf("the disk is in %s", save(t, kept))
					}
				}
				kinds[kindOf(path)]++
			}
		}
	}
	t.Logf("%d places damaged in %d files %v: %d times harmless, %d times reported", harmless+reported, len(files), kinds, harmless, reported)
	if reported == 0 || harmless == 0 {
		t.Error("damage has always the same consequence: something is wrong with the test")
	}
}

// position is how an error says where a file is damaged, or that the file is a small one, which is damaged as a whole.
var position = regexp.MustCompile(`at position \d+|/checkpoint|has format version`)

// spoken reports whether an error is one that speaks of damage to this file, and says where it is.
func spoken(err error, path string) bool {
	if !errors.Is(err, commitlog.ErrCorrupt) && !errors.Is(err, meta.ErrCorrupt) && !errors.Is(err, segment.ErrVersion) {
		return false
	}
	name := strings.TrimSuffix(path, filepath.Ext(path)) // an error may speak of the log when its index is wrong
	return strings.Contains(err.Error(), name) && position.MatchString(err.Error())
}

func kindOf(path string) string {
	if ext := filepath.Ext(path); ext != "" {
		return ext
	}
	return filepath.Base(path)
}

// walk calls f for every file below a directory.
func walk(disk *vfs.Mem, dir string, f func(path string, size int64)) error {
	names, err := disk.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		file, err := disk.Open(path)
		if err != nil {
			if err := walk(disk, path, f); err != nil {
				return fmt.Errorf("walk %s: %w", path, err)
			}
			continue
		}
		size, err := file.Size()
		if err != nil {
			return err
		}
		f(path, size)
	}
	return nil
}
