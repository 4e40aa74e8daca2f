package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/cli/plugin"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"millstream": func() { os.Exit(Main("v0.0.0-test")) },
	})
}

// leakChecked fails a test run that leaves goroutines behind.
type leakChecked struct{ *testing.M }

func (l leakChecked) Run() int {
	code := l.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs testdata/script/*.txtar: the real commands, each in a
// process of its own, against a real server. Beside testscript's own there are the commands
//
//	server [flags…]         starts a server over $WORK/data and sets MILLSTREAM_BROKERS and MILLSTREAM_ADMIN
//	server stop|interrupt|kill   ends it by SIGTERM, SIGINT or SIGKILL
//	worker NAME [flags…]    starts a worker on that server and sets NAME to the address of its admin API
//	worker NAME stop|interrupt|kill
//	killchild               kills the one child process of the server, waiting for it to be there
//	hog FILE                writes a module that takes 100 MiB of memory for each partition it works on
//	exits CODE command…     runs a command and checks its exit code
//	eventually [-match REGEX] command…   runs a command until it succeeds, and prints that, at most 30 s
//	get PATH                prints what the admin API answers
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server":     cmdServer,
			"worker":     cmdWorker,
			"killchild":  cmdKillChild,
			"hog":        cmdHog,
			"exits":      cmdExits,
			"eventually": cmdEventually,
			"get":        cmdGet,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "plugins" {
				return len(plugin.Ready()) > 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(e *testscript.Env) error {
			e.Values[processesKey{}] = map[string]*testProcess{}
			// Compilers keep their caches; all else is the script's own.
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY"} {
				out, err := exec.Command("go", "env", name).Output()
				if err != nil {
					return err
				}
				e.Setenv(name, strings.TrimSpace(string(out)))
			}
			cache, err := os.UserCacheDir()
			if err != nil {
				return err
			}
			e.Setenv("XDG_CACHE_HOME", cache)
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			return nil
		},
	})
}

func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get PATH")
	}
	r, err := http.Get(ts.Getenv("MILLSTREAM_ADMIN") + args[0])
	ts.Check(err)
	defer func() { _ = r.Body.Close() }()
	defer http.DefaultClient.CloseIdleConnections()
	if r.StatusCode != http.StatusOK {
		ts.Fatalf("GET %s: %s", args[0], r.Status)
	}
	_, err = io.Copy(ts.Stdout(), r.Body)
	ts.Check(err)
}

type processesKey struct{}

// testProcess is a server or worker of a script.
type testProcess struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: server [flags…] or server stop|interrupt|kill")
	}
	brokers, admin := background(ts, "server", args, "server", "--data", ts.MkAbs("data"), "--listen", "127.0.0.1:0")
	if brokers != "" {
		ts.Setenv("MILLSTREAM_BROKERS", brokers)
		ts.Setenv("MILLSTREAM_ADMIN", admin)
	}
}

func cmdWorker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: worker NAME [flags…] or worker NAME stop|interrupt|kill")
	}
	if _, admin := background(ts, args[0], args[1:], "worker", "--brokers", ts.Getenv("MILLSTREAM_BROKERS"), "--cache", ts.MkAbs("cache")); admin != "" {
		ts.Setenv(args[0], admin)
	}
}

// background starts a process that stays, and returns its addresses; or ends it, if that is what args say.
func background(ts *testscript.TestScript, name string, args []string, command ...string) (brokers, admin string) {
	processes := ts.Value(processesKey{}).(map[string]*testProcess)
	s := processes[name]
	signals := map[string]os.Signal{"stop": syscall.SIGTERM, "interrupt": os.Interrupt, "kill": os.Kill}
	if len(args) == 1 && signals[args[0]] != nil {
		err := s.end(signals[args[0]])
		ts.Logf("%s", s.log.String())
		if err != nil && args[0] != "kill" {
			ts.Fatalf("%s did not stop in order: %v", name, err)
		}
		return "", ""
	}
	if s != nil && s.cmd != nil {
		ts.Fatalf("%s runs already", name)
	}
	s = &testProcess{}
	processes[name] = s
	path := filepath.SplitList(ts.Getenv("PATH"))[0]
	flags := slices.Concat(command, []string{"--admin", "127.0.0.1:0", "--json"}, args)
	s.cmd = exec.Command(filepath.Join(path, "millstream"), flags...)
	s.cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"), "GOCOVERDIR=" + ts.Getenv("GOCOVERDIR")}
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	ts.Defer(func() { _ = s.end(syscall.SIGTERM) })
	var ready struct{ Brokers, Admin string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		_ = s.end(os.Kill)
		ts.Fatalf("%s did not start: %v\n%s%s", name, err, line, s.log.String())
	}
	return ready.Brokers, ready.Admin
}

// end signals the process, waits for it and returns how it ended.
func (s *testProcess) end(sig os.Signal) error {
	if s == nil || s.cmd == nil {
		return nil
	}
	cmd := s.cmd
	s.cmd = nil
	return errors.Join(cmd.Process.Signal(sig), cmd.Wait())
}

func cmdKillChild(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(processesKey{}).(map[string]*testProcess)["server"]
	if neg || len(args) > 0 || s == nil || s.cmd == nil {
		ts.Fatalf("usage: killchild, with a server")
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		children := childrenOf(s.cmd.Process.Pid)
		if len(children) == 1 {
			ts.Check(syscall.Kill(children[0], syscall.SIGKILL))
			return
		}
	}
	ts.Fatalf("the server has the children %v", childrenOf(s.cmd.Process.Pid))
}

// childrenOf reads what Linux tells about processes.
func childrenOf(parent int) []int {
	var out []int
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has gone
		}
		// pid (name) state ppid …; the name may have anything in it.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			out = append(out, pid)
		}
	}
	return out
}

func cmdHog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hog FILE")
	}
	const pages = 100 << 20 / (64 << 10)
	body := wasmtest.Code{}.I32Const(pages).MemoryGrow().Drop().
		I32Const(4 << 20).I32Const(1).I32Const(pages << 16).MemoryFill().Append(wasmtest.Identity())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), wasmtest.Guest{Process: body}.Bytes(), 0o600))
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	var pattern *regexp.Regexp
	if len(args) > 2 && args[0] == "-match" {
		var err error
		pattern, err = regexp.Compile(args[1])
		ts.Check(err)
		args = args[2:]
	}
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually [-match REGEX] command…")
	}
	// Each try is a process that asks the server, so the loop is paced by itself.
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if ts.Exec(args[0], args[1:]...) == nil && (pattern == nil || pattern.MatchString(ts.ReadFile("stdout"))) {
			return
		}
	}
	ts.Fatalf("never succeeded: %s", strings.Join(args, " "))
}
