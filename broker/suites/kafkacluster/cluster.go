// Package kafkacluster runs an Apache Kafka cluster of three nodes on this machine, for tests
// and for trying things out: each node is broker and controller (KRaft) in a Java process of its own, on
// loopback ports, with its data below a temporary directory. Topics are replicated three times
// and take writes while two replicas are there, internal ones too, so one node may be
// away at any time. Options make it smaller, older, or guarded by TLS, logins and an authorizer.
//
// In a test:
//
//	c := kafkacluster.Start(t)          // skips aloud without Java 17 and Maven
//	client(c.Brokers()...)
//	c.Kill(2)                           // as kill -9 does
//	c.Restart(2)                        // returns when the node is back in the cluster
//	c.Pause(3); c.Resume(3)             // SIGSTOP, SIGCONT
//	c = kafkacluster.Start(t, kafkacluster.OneNode(), kafkacluster.Feature("transaction.version", 0))
//
// Nodes are numbered from 1. The cluster is stopped and its data removed with the test; when the test has failed,
// the data and the nodes' logs are kept, and where that is is told. Starting takes about ten seconds.
//
// The jars come from Maven's repository and are kept below MILLSTREAM_SUITES_DIR (default: the user's cache), as
// those of the suites are. MILLSTREAM_REQUIRE_TOOLS makes missing tools a failure instead of a skip. Methods
// are safe for concurrent use, but for two that are about the same node.
package kafkacluster

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Nodes is how many nodes a cluster has, unless it has one.
const Nodes = 3

const (
	envRequireTools = "MILLSTREAM_REQUIRE_TOOLS" // a missing tool is a failure, not a skip
	install         = "apt-get install openjdk-17-jdk-headless maven"
	startTimeout    = 3 * time.Minute // far longer than it takes
)

//go:embed log4j2.properties
var log4j []byte

// Cluster is a running cluster.
type Cluster struct {
	settings
	dir, jars string
	id        string
	nodes     []*node
	behind    []string  // what Advertise advertises
	security  *Security // nil: everybody is let in
}

// Start runs a cluster until the end of the test.
func Start(t testing.TB, options ...Option) *Cluster {
	t.Helper()
	if err := Missing(); err != nil {
		if os.Getenv(envRequireTools) == "" {
			t.Skipf("NOT RUN: %v", err)
		}
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "kafka-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), dir, options...)
	if err != nil {
		t.Fatalf("%v; logs are in %s", err, dir)
	}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Logf("the cluster's logs and data are in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Missing says which tool is missing, if one is, and how it is installed.
func Missing() error {
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; install it: %s", err, install)
		}
	}
	return nil
}

// Open starts a cluster with its data in dir, which is empty or does not exist, and returns when all nodes are ready.
func Open(ctx context.Context, dir string, options ...Option) (*Cluster, error) {
	set := settings{count: Nodes, version: DefaultVersion}
	for _, option := range options {
		option(&set)
	}
	jars, err := fetchJars(ctx, set.version)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	id[0] &= 0x7f        // in base64 it begins with a letter: as an argument it must not begin with a dash
	c := &Cluster{settings: set, dir: dir, jars: jars, id: base64.RawURLEncoding.EncodeToString(id)}
	if err := c.configure(); err != nil {
		return nil, err
	}
	err = c.each(func(n *node) error {
		args := append([]string{"format", "-t", c.id, "-c", n.config}, c.formatArgs()...)
		out, err := c.java(ctx, "kafka.tools.StorageTool", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("format the storage of node %d: %w\n%s", n.number, err, out)
		}
		return nil
	})
	if err == nil {
		err = c.each(func(n *node) error { return n.start(ctx) })
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Brokers are the addresses of all nodes, host:port, where everybody is let in and may do everything.
func (c *Cluster) Brokers() []string {
	brokers := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		brokers[i] = n.address
	}
	return brokers
}

// Kill ends a node as kill -9 does, and returns when it is gone.
func (c *Cluster) Kill(number int) { c.node(number).kill() }

// Restart starts a node that was killed, with the data it has, and returns when it takes part in the cluster again.
func (c *Cluster) Restart(number int) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return c.node(number).start(ctx)
}

// Pause stops a node's process where it is (SIGSTOP), with its connections open; Resume lets it go on.
func (c *Cluster) Pause(number int) error { return c.node(number).signal(syscall.SIGSTOP) }

// Resume ends a pause.
func (c *Cluster) Resume(number int) error { return c.node(number).signal(syscall.SIGCONT) }

// Close ends all nodes. The data stays.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		if n != nil {
			n.kill()
		}
	}
}

// node finds a node; a number that there is not is a mistake of the test.
func (c *Cluster) node(number int) *node {
	if number < 1 || number > len(c.nodes) {
		panic(fmt.Sprintf("kafkacluster: there is no node %d, they are 1 to %d", number, len(c.nodes)))
	}
	return c.nodes[number-1]
}

// each calls f for all nodes at the same time.
func (c *Cluster) each(f func(*node) error) error {
	errs := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, n := range c.nodes {
		all.Go(func() { errs[i] = f(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// java is a command that runs a class of Kafka.
func (c *Cluster) java(ctx context.Context, class string, args ...string) *exec.Cmd {
	// These processes live for minutes on few cores: compiling hot code thoroughly would cost more than it saves.
	flags := []string{"-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + filepath.Join(c.dir, "log4j2.properties"), "-cp", filepath.Join(c.jars, "*"), class}
	cmd := exec.CommandContext(ctx, "java", append(flags, args...)...)
	cmd.Dir = c.dir
	return cmd
}

// freePorts finds ports that nobody listens on.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end: no port twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
