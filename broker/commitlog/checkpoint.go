package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/broker/vfs"
)

// checkpointName is the file that keeps what the batches do not tell: where
// the log starts, if that is not where its first segment does, and at which
// offsets leader epochs began. It is text:
//
//	millstream log checkpoint 1
//	start 4711
//	epoch 3 4000
//	replacing 4711 9000
//	crc32c 1a2b3c4d
//
// with a line for each epoch and the checksum of all lines before the last.
// The line "replacing" is there while the segments that hold the offsets from
// 4711 up to 9000 are replaced by one whose files end in .cleaned (see replace.go).
// The file is replaced as a whole. A log that still starts at offset 0, has
// known no epoch but 0 and was never compacted does without it.
const (
	checkpointName   = "checkpoint"
	checkpointHeader = "millstream log checkpoint 1"
	temporarySuffix  = ".tmp"
)

// checkpoint is the content of the file.
type checkpoint struct {
	start     int64
	epochs    []epochStart
	replacing *offsetRange
}

// offsetRange is the offsets from base up to next, exclusive.
type offsetRange struct{ base, next int64 }

// epochStart says that a leader epoch began at an offset.
type epochStart struct {
	epoch  int32
	offset int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c *checkpoint) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nstart %d\n", checkpointHeader, c.start)
	for _, e := range c.epochs {
		fmt.Fprintf(&b, "epoch %d %d\n", e.epoch, e.offset)
	}
	if c.replacing != nil {
		fmt.Fprintf(&b, "replacing %d %d\n", c.replacing.base, c.replacing.next)
	}
	fmt.Fprintf(&b, "crc32c %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

// parseCheckpoint decodes the file; any change of a byte is an error.
func parseCheckpoint(b []byte) (c checkpoint, err error) {
	body, sum, ok := bytes.Cut(b, []byte("crc32c "))
	if !ok || string(sum) != fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)) {
		return c, errors.New("checksum does not match")
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if lines[0] != checkpointHeader {
		return c, fmt.Errorf("begins with %q, not with %q", lines[0], checkpointHeader)
	}
	for i, line := range lines[1:] {
		fields := strings.Fields(line)
		numbers := make([]int64, 0, 2)
		for _, f := range fields[min(1, len(fields)):] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil || n < 0 {
				return c, fmt.Errorf("line %q: %q is no offset or epoch", line, f)
			}
			numbers = append(numbers, n)
		}
		switch {
		case i == 0 && len(numbers) == 1 && fields[0] == "start":
			c.start = numbers[0]
		case i > 0 && len(numbers) == 2 && fields[0] == "epoch" && c.replacing == nil && numbers[0] <= 1<<31-1:
			c.epochs = append(c.epochs, epochStart{int32(numbers[0]), numbers[1]})
		case i > 0 && len(numbers) == 2 && fields[0] == "replacing" && c.replacing == nil && numbers[0] < numbers[1]:
			c.replacing = &offsetRange{numbers[0], numbers[1]}
		default:
			return c, fmt.Errorf("line %q is not understood", line)
		}
	}
	if len(lines) < 2 {
		return c, errors.New("the start offset is missing")
	}
	return c, nil
}

func readCheckpoint(fsys vfs.FS, dir string) (checkpoint, error) {
	path := filepath.Join(dir, checkpointName)
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint{}, nil
	}
	if err != nil {
		return checkpoint{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return checkpoint{}, fmt.Errorf("read %s: %w", path, err)
	}
	c, err := parseCheckpoint(b)
	if err != nil {
		return c, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	return c, nil
}

// writeCheckpoint replaces the file; it is durable afterwards.
func writeCheckpoint(fsys vfs.FS, dir string, c checkpoint) error {
	path := filepath.Join(dir, checkpointName)
	f, err := fsys.Create(path + temporarySuffix)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(c.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fsys.Rename(path+temporarySuffix, path); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
