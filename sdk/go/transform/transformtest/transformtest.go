// Package transformtest runs a transform natively in go test, through the same
// bytes as in production: records in; outputs, rejects and log lines out.
//
//	func TestUpper(t *testing.T) {
//		got := transformtest.Run(t, transformtest.Options{}, transform.Record{Value: []byte("hola")})
//		if want := []string{"HOLA"}; !slices.Equal(got.Values("out"), want) {
//			t.Errorf("got %q, want %q", got.Values("out"), want)
//		}
//	}
//
// Every Run starts with a transform of its own and calls OnSetup. What a
// transform keeps in package variables is shared by all tests of the package,
// as always in Go: let OnSetup set them anew.
//
// What compiled modules do otherwise (TinyGo's traps, limits of memory and fuel)
// does not show here; "millstream test" runs the module itself.
package transformtest

import (
	"errors"
	"testing"
	"time"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/internal/bridge"
)

// Options describe the deployment that a transform is tested in. The zero
// value is one with the output "out", without config and assets.
type Options struct {
	Deployment string   // default "test"
	Inputs     []string // topics; default "in"
	Outputs    []string // default "out"
	Config     map[string]string
	Assets     map[string][]byte

	// Input is the index in Inputs of the topic that the records are from.
	Input     int
	Partition int
	// Now is the clock of the transform; default 2025-01-01 00:00 UTC.
	Now time.Time

	// OnSetup and OnRecord, if set, are tested instead of what is registered.
	OnSetup  func(*transform.Setup) error
	OnRecord func(*transform.Context, transform.Record) error

	// OutputAreaBytes is how much output fits until it is handed over in between;
	// default 64 KiB. It makes no difference to what comes out.
	OutputAreaBytes int
}

// Output is a record that was emitted.
type Output struct {
	Name   string // of the output
	Input  int    // index of the input record, over all calls of Process
	Record transform.Record
}

// Reject is an input record that was rejected.
type Reject struct {
	Input  int // index of the input record, over all calls of Process
	Reason string
}

// Line is a line of the log.
type Line struct {
	Level transform.Level
	Text  string
}

// Result is what came out. Its records are copies.
type Result struct {
	Outputs []Output
	Rejects []Reject
	Log     []Line
}

// Values returns the values of the records of one output, as text.
func (r *Result) Values(output string) []string {
	var values []string
	for _, o := range r.Outputs {
		if o.Name == output {
			values = append(values, string(o.Record.Value))
		}
	}
	return values
}

// Run runs records through a new transform and returns what came out. It ends
// the test if the transform refuses its configuration.
func Run(t testing.TB, o Options, records ...transform.Record) *Result {
	t.Helper()
	runner, err := Start(o)
	if err != nil {
		t.Fatalf("the transform refuses its configuration: %v", err)
	}
	return runner.Process(records...)
}

// Runner is a transform that has been set up.
type Runner struct {
	options Options
	guest   bridge.Guest
	seen    int
	result  Result
	flushed []byte
}

// Start makes a new transform and sets it up. Its error is what OnSetup returned.
func Start(o Options) (*Runner, error) {
	if o.Deployment == "" {
		o.Deployment = "test"
	}
	if o.Inputs == nil {
		o.Inputs = []string{"in"}
	}
	if o.Outputs == nil {
		o.Outputs = []string{"out"}
	}
	if o.Now.IsZero() {
		o.Now = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.OutputAreaBytes == 0 {
		o.OutputAreaBytes = 64 << 10
	}
	r := &Runner{options: o}
	r.guest = bridge.New((*host)(r), o.OutputAreaBytes, o.OnSetup, o.OnRecord)
	if refusal := r.guest.Setup(setupBlock(&o)); refusal != "" {
		return nil, errors.New(refusal)
	}
	return r, nil
}

// Process runs one batch. The result has the log lines of the setup, too, if
// it is the first one.
func (r *Runner) Process(records ...transform.Record) *Result {
	r.flushed = r.flushed[:0]
	n, entries := r.guest.Process(batchBlock(&r.options, records))
	if n != len(records) {
		panic("transformtest: the SDK handled fewer records than it was given")
	}
	timestamps := make([]int64, len(records))
	for i := range records {
		timestamps[i] = records[i].Timestamp
	}
	r.decode(append(r.flushed, entries...), timestamps)
	r.seen += len(records)
	result := r.result
	r.result = Result{}
	return &result
}

// host is a Runner as its guest sees it.
type host Runner

func (h *host) Log(level uint32, p []byte) {
	h.result.Log = append(h.result.Log, Line{Level: transform.Level(level), Text: string(p)})
}

func (h *host) Flush(p []byte) { h.flushed = append(h.flushed, p...) }
