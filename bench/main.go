// Command bench measures Millstream against what it is made of and against
// its peers, in one run, and prints ratios. CPU time comes first: it repeats on a noisy machine, wall time does not.
// Peers live in this module so that they never enter the product's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
)

func main() {
	binary := flag.String("millstream", "../bin/millstream", "the built binary")
	only := flag.String("only", "path,peer,broker,durable,once,external,fuel,live,hostile,scale", "sections to run")
	large := flag.Int("large", 0, "gigabytes that go through one topic in the section scale; 0 leaves that out")
	megabytes := flag.Int("megabytes", 400, "bytes of values per pass through a path")
	serve := flag.Bool("serve-kfake", false, "run the peer broker (used by the benchmark itself)")
	serveNats := flag.Bool("serve-jetstream", false, "run the other peer (used by the benchmark itself)")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the benchmark's process to this file")
	flag.Parse()
	if *serve {
		exit(serveKfake())
	}
	if *serveNats {
		exit(serveJetStream())
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			exit(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "millstream-bench-")
	if err != nil {
		exit(err)
	}
	b := &bench{binary: *binary, dir: dir, bytes: *megabytes << 20, large: int64(*large) * 1e9}
	err = b.run(ctx, strings.Split(*only, ","))
	_ = os.RemoveAll(dir)
	pprof.StopCPUProfile()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// machine prints what the figures were made on.
func machine() {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(name), ":"))
				break
			}
		}
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("machine: %s, %d cores; %s; %s; load %s\n", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version(),
		strings.Join(strings.Fields(string(load))[:min(3, len(strings.Fields(string(load))))], " "))
}
