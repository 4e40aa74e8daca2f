package acceptance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk lets the disk of a server run full under a deployment: writes are refused with the reason, reads go on, the
// status and the log say why, a restart works, and when there is room again everything goes on by itself, each
// record once.
func TestFullDisk(t *testing.T) {
	plugin := upperPlugin(t)
	dir := smallDisk(t, "40m")
	hog := occupy(t, dir, "hog", 24<<20)
	s := start(t, filepath.Join(dir, "data"))
	s.millstream(t, "", "topic", "create", "in", "--partitions", "2")
	s.millstream(t, "", "deploy", plugin, "--name", "loud", "--from", "in", "--to", "out", "--create-topics", "--start", "earliest")
	written := s.fillUnread(t, dir, "in")
	if got := s.count(t, "in"); got != written {
		t.Errorf("a full disk gives %d records to readers, %d were written", got, written)
	}
	s.stop(t, syscall.SIGKILL)
	logged := lines(&s.log)
	s = start(t, s.dir)
	s.await(t, "loud is retrying", "no space left on device")
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	s.await(t, "loud is running", "lag 0")
	s.millstream(t, "after", "produce", "in")
	s.await(t, "lag 0")
	if got := s.count(t, "in"); got != written+1 {
		t.Errorf("%d records are there, %d were acknowledged", got, written+1)
	}
	if got := s.count(t, "out"); got != written+1 {
		t.Errorf("%d outputs for %d records", got, written+1)
	}
	s.stop(t, syscall.SIGTERM)
	if logged += lines(&s.log); logged > 100 {
		t.Errorf("%d lines were logged:\n%.3000s", logged, s.log.String())
	}
}

// TestFullDiskIsEmptied: without a byte left, what makes room works all the same, and the server goes on by itself.
func TestFullDiskIsEmptied(t *testing.T) {
	plugin := upperPlugin(t)
	dir := smallDisk(t, "40m")
	s := start(t, filepath.Join(dir, "data"))
	s.millstream(t, "", "topic", "create", "unused")
	s.millstream(t, strings.Repeat(strings.Repeat("z", 1000)+"\n", 20_000), "produce", "unused")
	s.millstream(t, "", "topic", "create", "in", "--config", "segment.bytes=1048576", "--config", "file.delete.delay.ms=1000")
	s.millstream(t, "", "deploy", plugin, "--name", "loud", "--from", "in", "--to", "out", "--create-topics", "--start", "earliest")
	written := s.fillUnread(t, dir, "in")
	last, err := os.Create(filepath.Join(dir, "last"))
	for err == nil {
		_, err = last.Write(make([]byte, 4096))
	}
	if last.Close() != nil || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	const given = 2000 // records that are given up
	s.millstream(t, "", "topic", "delete-records", "in", "--before", strconv.Itoa(given))
	s.millstream(t, "", "topic", "delete", "unused")
	s.await(t, "loud is running", "lag 0")
	left, out, missing := s.content(t, "in"), s.content(t, "out"), 0
	for record := range left {
		if !out[record] {
			missing++
		}
	}
	// Some of what was given up may have had an output before the disk was full.
	if len(left) != written-given || missing > 0 || len(out) > written {
		t.Errorf("of %d records %d are left, %d of them without an output; there are %d outputs", written, len(left), missing, len(out))
	}
}

// smallDisk mounts a file system in memory until the end of the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting a small disk takes root")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small disk cannot be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// occupy makes a file of some size, and returns its path.
func occupy(t *testing.T, dir, name string, bytes int) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fillUnread fills the disk with input that the deployment has not read, and lets it go on when there is no room for
// its outputs.
func (s *server) fillUnread(t *testing.T, dir, topic string) (written int) {
	t.Helper()
	s.millstream(t, "", "pause", "loud")
	spare := occupy(t, dir, "spare", 256<<10)
	written = s.fill(t, topic)
	if err := os.Remove(spare); err != nil {
		t.Fatal(err)
	}
	s.millstream(t, "", "resume", "loud")
	s.await(t, "loud is retrying", "no space left on device")
	return written
}

// fill writes records until the server has no room for more, and returns how many it took.
func (s *server) fill(t *testing.T, topic string) (written int) {
	t.Helper()
	for batch := range 100 {
		var input strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&input, "k%d:%d.%d %01000d\n", i%7, batch, i, i)
		}
		cmd := exec.Command(binary, "produce", topic, "--key-separator", ":")
		cmd.Env, cmd.Stdin = s.env(), strings.NewReader(input.String())
		var said bytes.Buffer
		cmd.Stderr = &said
		if cmd.Run() == nil {
			continue
		}
		if !strings.Contains(said.String(), "disk full") || !strings.Contains(said.String(), "make room") {
			t.Errorf("produce to a full disk says\n%s", said.String())
		}
		return s.count(t, topic)
	}
	t.Fatal("the disk does not get full")
	return 0
}

// await waits until the status of the deployment says all of this.
func (s *server) await(t *testing.T, wants ...string) {
	t.Helper()
	status := ""
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); <-ticker.C {
		status = s.millstream(t, "", "status", "loud")
		missing := 0
		for _, want := range wants {
			if !strings.Contains(status, want) {
				missing++
			}
		}
		if missing == 0 {
			return
		}
	}
	t.Fatalf("the status does not say %q:\n%s\nlog:\n%s", wants, status, s.log.String())
}

// count is how many records content returns.
func (s *server) count(t *testing.T, topic string) int {
	t.Helper()
	return len(s.content(t, topic))
}

// content reads a topic to its end, and fails if a record is there twice.
func (s *server) content(t *testing.T, topic string) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for line := range strings.Lines(s.millstream(t, "", "consume", topic, "--from", "start")) {
		if seen[line] {
			t.Errorf("%s: %.30q is there twice", topic, line)
		}
		seen[line] = true
	}
	return seen
}

func lines(b *bytes.Buffer) (n int) {
	for scan := bufio.NewScanner(bytes.NewReader(b.Bytes())); scan.Scan(); n++ {
	}
	return n
}
