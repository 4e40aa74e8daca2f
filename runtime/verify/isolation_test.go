package verify

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
)

// children lists the workers that a process has started.
func children(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var out []int
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, behind, ok := strings.Cut(string(stat), ") ") // behind the command's name: state, parent, …
		fields := strings.Fields(behind)
		if !ok || len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if words := bytes.Split(command, []byte{0}); err != nil || len(words) < 2 || string(words[1]) != "worker" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// TestVerifyIsolated kills the processes in which a server runs its deployments, one each, and the server itself.
func TestVerifyIsolated(t *testing.T) {
	binaryPath(t)
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skipf("NOT RUN: it finds processes in /proc: %v", err)
	}
	seed := seed(t)
	p := newProxy(t, seed, nil)
	s := startServer(t, p, "--isolation", "process")
	createFleetTopics(t, p.address(), 64<<10)
	deployFleet(t, s.admin, deploy.DeliveryExactlyOnce)
	u := &upgrades{t: t, member: fleet()[0]}
	defer u.running.Wait()
	n, kills := 0, 0
	v := &verification{
		t: t, seed: seed, brokers: p.address(), times: max(10, *flagKills/8), restLow: 100 * time.Millisecond, restHigh: time.Second,
		disturb: func(ctx context.Context, random *rand.Rand) error {
			switch n++; {
			case n == 1:
				if err := u.first(ctx, s.admin, random); err != nil {
					return err
				}
			case n%3 == 0: // and the kill comes into the middle of it
				u.begin(ctx, s.admin, random, between(random, 200*time.Millisecond, 10*time.Second))
				<-time.After(between(random, 0, 500*time.Millisecond))
			}
			if random.IntN(5) == 0 {
				return s.crash(between(random, 0, 20*time.Millisecond))
			}
			pids := children(s.pid())
			if len(pids) == 0 {
				return nil // they are being started
			}
			kills++
			if err := syscall.Kill(pids[random.IntN(len(pids))], syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("kill: %w", err)
			}
			return nil
		},
	}
	o, err := v.run()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills of the server, %d of its workers, %s; %s", s.kills, kills, u, o)
	o.check(t)
	if o.versions() == 0 {
		t.Error("no version after the first has made output")
	}
	if kills == 0 {
		t.Error("no worker was found to be killed")
	}
}
