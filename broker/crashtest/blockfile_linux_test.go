package crashtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A recorded file is a FUSE file system that is one file: it is mounted upon a
// file, not upon a directory. A loop device over it makes a disk of which
// every write and every flush is known. It is served by a process of its own:
// who waits for the disk must not be who answers for it.

// envBlockFile says to a child of the test that it serves a recorded file, and over which directory.
const envBlockFile = "MILLSTREAM_CRASHTEST_BLOCKFILE"

// The files of a recorded file's directory.
const (
	imageFile  = "image"  // what the disk holds
	recordFile = "record" // what was done to it, see blockEvent
	mountFile  = "disk"   // the file system is mounted here
)

// blockHeaderBytes is what stands before the data of each event in the record: position and length, -1 for a flush.
const blockHeaderBytes = 16

// blockEvent is a write to the disk or a flush of its cache.
type blockEvent struct {
	end   int // of the event in the record
	at    int64
	data  []byte
	flush bool
}

// readBlockRecord takes a record apart.
func readBlockRecord(b []byte) (events []blockEvent, err error) {
	for at := 0; at < len(b); {
		if len(b)-at < blockHeaderBytes {
			return nil, fmt.Errorf("record of the disk: %d bytes behind the last event", len(b)-at)
		}
		e := blockEvent{at: int64(binary.LittleEndian.Uint64(b[at:]))}
		n := int64(binary.LittleEndian.Uint64(b[at+8:]))
		at += blockHeaderBytes
		if e.flush = n < 0; !e.flush {
			if n > int64(len(b)-at) {
				return nil, fmt.Errorf("record of the disk: an event of %d bytes, %d are left", n, len(b)-at)
			}
			e.data = b[at : at+int(n)]
			at += int(n)
		}
		e.end = at
		events = append(events, e)
	}
	return events, nil
}

// The FUSE protocol, as far as one file needs it (linux/fuse.h, version 7.31).
const (
	fuseGetattr = 3
	fuseSetattr = 4
	fuseOpen    = 14
	fuseRead    = 15
	fuseWrite   = 16
	fuseStatfs  = 17
	fuseRelease = 18
	fuseFsync   = 20
	fuseFlush   = 25
	fuseInit    = 26

	fuseForget      = 2
	fuseInterrupt   = 36
	fuseBatchForget = 42

	fuseInHeader   = 40
	fuseOutHeader  = 16
	fuseMaxWrite   = 128 << 10
	fuseBigWrites  = 1 << 5
	fuseDirectIO   = 1 // answers of open: no page cache in between
	fuseReadWrite  = 40
	fuseAttrBytes  = 88
	fuseInitBytes  = 64
	fuseStatfBytes = 80
)

// blockFile serves a recorded file.
type blockFile struct {
	fuse          int
	image, record *os.File
	size          int64
}

// serveInstead serves a recorded file if that is what this process was started for.
func serveInstead() bool {
	dir := os.Getenv(envBlockFile)
	if dir == "" {
		return false
	}
	if err := serveBlockFile(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// serveBlockFile runs in the child: it mounts the file, says so on stdout, and
// serves until it is unmounted, or its parent is gone: then its end aborts what
// still waits for the disk, and with the last process of the mount namespace
// all mounts and loop devices go.
func serveBlockFile(dir string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the parent never writes
		os.Exit(1)
	}()
	var b blockFile
	var err error
	if b.image, err = os.OpenFile(filepath.Join(dir, imageFile), os.O_RDWR, 0); err != nil {
		return err
	}
	info, err := b.image.Stat()
	if err != nil {
		return err
	}
	b.size = info.Size()
	if b.record, err = os.OpenFile(filepath.Join(dir, recordFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if b.fuse, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0,max_read=%d", b.fuse, fuseMaxWrite)
	if err := unix.Mount("crashtest", filepath.Join(dir, mountFile), "fuse", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mount the recorded file: %w", err)
	}
	fmt.Println("ready")
	buf := make([]byte, fuseMaxWrite+4096)
	for {
		n, err := unix.Read(b.fuse, buf)
		switch {
		case errors.Is(err, unix.ENODEV): // unmounted
			return nil
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return fmt.Errorf("read a request of FUSE: %w", err)
		case n < fuseInHeader:
			return fmt.Errorf("a request of FUSE has %d bytes", n)
		}
		if err := b.answer(buf[:n]); err != nil {
			return err
		}
	}
}

// answer does one request. One at a time is done, so the record has the true order.
func (b *blockFile) answer(request []byte) error {
	op, body := binary.LittleEndian.Uint32(request[4:]), request[fuseInHeader:]
	if op == fuseForget || op == fuseBatchForget || op == fuseInterrupt {
		return nil // have no answer
	}
	out, errno := b.do(op, body)
	reply := make([]byte, fuseOutHeader, fuseOutHeader+len(out))
	copy(reply[8:16], request[8:16]) // which request it answers
	binary.LittleEndian.PutUint32(reply[4:], uint32(-int32(errno)))
	if errno == 0 {
		reply = append(reply, out...)
	}
	binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
	if _, err := unix.Write(b.fuse, reply); err != nil && !errors.Is(err, unix.ENOENT) { // ENOENT: the request was interrupted
		return fmt.Errorf("answer request %d of FUSE: %w", op, err)
	}
	return nil
}

func (b *blockFile) do(op uint32, body []byte) (out []byte, errno unix.Errno) {
	le := binary.LittleEndian
	switch op {
	case fuseInit:
		out = make([]byte, fuseInitBytes)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[8:], le.Uint32(body[8:]))
		le.PutUint32(out[12:], le.Uint32(body[12:])&fuseBigWrites)
		le.PutUint32(out[20:], fuseMaxWrite)
		le.PutUint32(out[24:], 1)
		return out, 0
	case fuseGetattr, fuseSetattr:
		out = make([]byte, 16+fuseAttrBytes)
		le.PutUint64(out[16:], 1) // inode
		le.PutUint64(out[24:], uint64(b.size))
		le.PutUint64(out[32:], uint64(b.size)/512)
		le.PutUint32(out[76:], unix.S_IFREG|0o600)
		le.PutUint32(out[80:], 1) // links
		le.PutUint32(out[96:], 4096)
		return out, 0
	case fuseOpen:
		out = make([]byte, 16)
		le.PutUint32(out[8:], fuseDirectIO)
		return out, 0
	case fuseStatfs:
		return make([]byte, fuseStatfBytes), 0
	case fuseRead:
		out = make([]byte, le.Uint32(body[16:]))
		n, err := b.image.ReadAt(out, int64(le.Uint64(body[8:])))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, unix.EIO
		}
		return out[:n], 0
	case fuseWrite:
		at, data := int64(le.Uint64(body[8:])), body[fuseReadWrite:][:le.Uint32(body[16:])]
		if b.write(at, data) != nil {
			return nil, unix.EIO
		}
		out = make([]byte, 8)
		le.PutUint32(out, uint32(len(data)))
		return out, 0
	case fuseFsync:
		if b.note(0, -1, nil) != nil {
			return nil, unix.EIO
		}
		return nil, 0
	case fuseFlush, fuseRelease:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

func (b *blockFile) write(at int64, data []byte) error {
	if _, err := b.image.WriteAt(data, at); err != nil {
		return err
	}
	return b.note(at, int64(len(data)), data)
}

// note appends an event to the record, in one write: its size is the moment of the disk.
func (b *blockFile) note(at, n int64, data []byte) error {
	event := make([]byte, blockHeaderBytes, blockHeaderBytes+len(data))
	binary.LittleEndian.PutUint64(event, uint64(at))
	binary.LittleEndian.PutUint64(event[8:], uint64(n))
	_, err := b.record.Write(append(event, data...))
	return err
}

// startBlockFile starts the child over a directory with an image. stop unmounts the file and waits for the child's end.
func startBlockFile(dir string) (stop func() error, err error) {
	mount := filepath.Join(dir, mountFile)
	if err := os.WriteFile(mount, nil, 0o600); err != nil {
		return nil, err
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), envBlockFile+"="+dir)
	child.Stderr = os.Stderr
	ready, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if _, err := child.StdinPipe(); err != nil { // is closed when we end
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	word := make([]byte, len("ready"))
	_, err = io.ReadFull(ready, word)
	go func() { ended <- child.Wait() }()
	if err != nil {
		return nil, fmt.Errorf("the recorded file is not served: %w", <-ended)
	}
	return func() error {
		err := unix.Unmount(mount, unix.MNT_DETACH)
		select {
		case ended := <-ended:
			return errors.Join(err, ended)
		case <-time.After(10 * time.Second):
			_ = child.Process.Kill()
			return errors.Join(err, errors.New("the recorded file is still in use"), <-ended)
		}
	}, nil
}
