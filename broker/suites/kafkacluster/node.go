package kafkacluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// started is what a node prints when it takes part in the cluster.
const started = "Kafka Server started"

// node is one process of the cluster, or the place of one.
type node struct {
	c           *Cluster
	number      int
	address     string
	config, log string

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{} // of process
}

// start runs the node and returns when it is ready.
func (n *node) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		return fmt.Errorf("node %d runs already", n.number)
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := n.c.java(context.Background(), "kafka.Kafka", n.config)
	cmd.Stderr = log
	cmd.SysProcAttr = dieWithParent()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		log.Close()
		return fmt.Errorf("start node %d: %w", n.number, err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer log.Close()
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for said := false; lines.Scan(); {
			_, _ = log.WriteString(lines.Text() + "\n")
			if !said && strings.Contains(lines.Text(), started) {
				said = true
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // how it ended is in its log
	}()
	n.process, n.ended = cmd, ended
	select {
	case <-ready:
		return nil
	case <-ended:
		n.process = nil
		return fmt.Errorf("node %d ended at once, its log is %s", n.number, n.log)
	case <-ctx.Done():
		n.end()
		return fmt.Errorf("start node %d: %w, its log is %s", n.number, ctx.Err(), n.log)
	}
}

func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end()
}

// end kills the process, if there is one; mu is held.
func (n *node) end() {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Kill()
	<-n.ended
	n.process = nil
}

func (n *node) signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return fmt.Errorf("node %d: %w", n.number, errors.New("it does not run"))
	}
	return n.process.Process.Signal(s)
}
