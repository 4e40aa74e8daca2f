package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// startMillstream starts the built binary as a server over dir and returns it with the time until it said that it is ready.
func startMillstream(binary, dir string, flags ...string) (*peerProcess, string, time.Duration, error) {
	args := append([]string{"server", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json", "--log-level", "warn"}, flags...)
	cmd := exec.Command(binary, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, "", 0, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	took := time.Since(began)
	var ready struct{ Brokers, Admin string }
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, "", 0, fmt.Errorf("millstream server did not start: %w", err)
	}
	return &peerProcess{cmd: cmd, address: ready.Brokers}, ready.Admin, took, nil
}
