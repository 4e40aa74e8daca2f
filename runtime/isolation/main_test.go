package isolation_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/host/compile"
	"github.com/millstream-io/millstream/runtime/isolation"
	"go.uber.org/goleak"
)

// childArgument is the first argument of this executable as a child: then the manner, and a directory of its own.
const childArgument = "child"

func TestMain(m *testing.M) {
	compile.Main(os.Args)
	isolation.Main(os.Args)
	if len(os.Args) == 4 && os.Args[1] == childArgument {
		os.Exit(child(os.Args[2], os.Args[3]))
	}
	goleak.VerifyTestMain(m)
}

// child does what a worker does for its supervisor, or what a bad one does.
func child(manner, dir string) int {
	if manner == "mute" { // never ready
		select {}
	}
	if manner == "crash" {
		fmt.Fprintln(os.Stderr, "fatal error: out of luck")
		return 2
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	if manner == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	committed := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.PathDeployments+"/d", func(w http.ResponseWriter, _ *http.Request) {
		if manner == "deaf" {
			select {}
		}
		_ = json.NewEncoder(w).Encode(admin.Status{
			Spec: deploy.Spec{Name: "d", Version: 7}, Phase: "running", Records: 11, DeadLetters: 2, Replacing: 1,
			Partitions: []admin.PartitionStatus{{Topic: "in", Partition: 0, Running: true, Rate: 2.5, Records: 9, CommittedAt: &committed, LatencySeconds: 0.25}, {Topic: "in", Partition: 1}},
		})
	})
	mux.HandleFunc("GET "+admin.PathMetrics, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE millstream_deployment_records_in_total counter\nmillstream_deployment_records_in_total{deployment=\"d\"} 11\n"+
			"# TYPE millstream_deployment_phase gauge\nmillstream_deployment_phase{deployment=\"d\",phase=\"odd\"} 1\n"+
			"# TYPE go_goroutines gauge\ngo_goroutines 3\n")
	})
	go func() { _ = http.Serve(l, mux) }()
	fmt.Printf("{\"admin\":\"http://%s\"}\n", l.Addr())
	fmt.Fprintf(os.Stderr, "{\"level\":\"WARN\",\"msg\":\"here I am\",\"pid\":%d}\n", os.Getpid())
	note(dir, "started")
	var hoard [][]byte
	for manner == "greedy" {
		block := make([]byte, 8<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		hoard = append(hoard, block)
		<-time.After(time.Millisecond)
	}
	<-signals
	note(dir, "ended")
	return len(hoard)
}

// note leaves a file that says what a child did and as which process.
func note(dir, what string) {
	_ = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d", what, os.Getpid())), []byte(strings.Join(os.Environ(), "\n")), 0o600)
}
