// Package deploy says what a deployment is and which ones are acceptable: the
// specification, its defaults, its validation against the module's manifest and
// against the other deployments (no cycles, no two of one name).
package deploy

import (
	"errors"
	"time"
)

// Errors of validation; each is wrapped with the thing and the fix.
var (
	ErrInvalid  = errors.New("invalid deployment")
	ErrExists   = errors.New("deployment already exists")
	ErrNotFound = errors.New("deployment not found")
	ErrCycle    = errors.New("deployments form a cycle")
	// ErrMissingTopics: inputs or outputs do not exist and CreateTopics was not asked for.
	ErrMissingTopics = errors.New("topics do not exist")
)

// Error policies for records that a guest rejects or traps on.
const (
	OnErrorDeadLetter = "dead-letter"
	OnErrorSkip       = "skip"
	OnErrorStop       = "stop"
)

// Kinds of delivery.
const (
	DeliveryExactlyOnce = "exactly-once"
	DeliveryAtLeastOnce = "at-least-once"
)

// DefaultRetries of a record on which the guest trapped.
const DefaultRetries = 2

// FailureLimit is the share of failed records at which a deployment stops: the
// fault is then in the module or in the whole stream, and the dead letter topic is no place for a topic.
type FailureLimit struct {
	// Percent of the records of a window that may fail; 0 = DefaultFailurePercent, 100 = all may.
	Percent int `json:"percent,omitempty"`
	// Window is how long records are counted together; 0 = DefaultFailureWindow.
	Window time.Duration `json:"window,omitempty"`
}

// Defaults of FailureLimit. MinFailures in a window must have failed before the share counts.
const (
	DefaultFailurePercent = 50
	DefaultFailureWindow  = time.Minute
	MinFailures           = 100
)

// Desired states.
const (
	Running = "running"
	Paused  = "paused"
)

// Spec is a deployment as its user wants it. It is stored as JSON in the catalog.
type Spec struct {
	Name    string            `json:"name"`
	Version int               `json:"version"` // grows by one with every change
	Module  string            `json:"module"`  // digest, "sha256:…"
	Inputs  []string          `json:"inputs"`
	Outputs []Output          `json:"outputs"`
	Config  map[string]string `json:"config,omitempty"`
	Assets  map[string]string `json:"assets,omitempty"` // asset name → digest of its bytes
	Limits  Limits            `json:"limits,omitzero"`
	OnError string            `json:"on_error"`
	// Delivery is one of the kinds of delivery; "" is DeliveryExactlyOnce.
	Delivery string `json:"delivery,omitempty"`
	// Retries is how often a record is tried again on which the guest trapped, before the error policy takes it; nil = DefaultRetries.
	Retries *int `json:"retries,omitempty"`
	// FailureLimit stops the deployment when too many records fail; zero = the default.
	FailureLimit FailureLimit `json:"failure_limit,omitzero"`
	// Until ends a bounded run: "end" (of every input as it was when the run began) or an RFC 3339 time; "" = never.
	Until   string    `json:"until,omitempty"`
	Start   string    `json:"start"` // latest, earliest, an offset, an RFC 3339 time or a duration ago
	State   string    `json:"state"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
}

// Output binds an output name of the module to a topic.
type Output struct {
	Name  string `json:"name"`
	Topic string `json:"topic"`
}

// Limits are what the user may set of host.Limits; zero = default.
type Limits struct {
	MemoryBytes   int64         `json:"memory_bytes,omitempty"`
	FuelPerRecord int64         `json:"fuel_per_record,omitempty"`
	WallTime      time.Duration `json:"wall_time,omitempty"`
	OutputBytes   int64         `json:"output_bytes,omitempty"`
	LogLines      int           `json:"log_lines,omitempty"`
}

// DeadLetterTopic is where the failed records of a deployment go.
func DeadLetterTopic(name string) string { return name + deadLetterSuffix }

// GroupName is the consumer group of a deployment: its name, so that every Kafka tool finds it.
func GroupName(name string) string { return name }
