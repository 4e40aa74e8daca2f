// Package deploy says what a deployment is and which ones are acceptable: the
// specification, its defaults, its validation against the module's manifest and
// against the other deployments (no cycles), and what changes from one version to the next.
package deploy

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// Errors of validation; each is wrapped with the thing and the fix.
var (
	ErrInvalid  = errors.New("invalid deployment")
	ErrExists   = errors.New("deployment already exists")
	ErrNotFound = errors.New("deployment not found")
	ErrCycle    = errors.New("deployments form a cycle")
	// ErrConflict: somebody else changed the deployment while this change was being made.
	ErrConflict = errors.New("the deployment was changed meanwhile")
	// ErrActive: the deployment runs, and this can be done only while it does not.
	ErrActive = errors.New("the deployment runs")
	// ErrNoVersion: the deployment has no such version (any more).
	ErrNoVersion = errors.New("no such version")
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

// Defaults and ranges of FailureLimit. MinFailures in a window must have failed before the share counts.
const (
	DefaultFailurePercent = 50
	DefaultFailureWindow  = time.Minute
	MinFailureWindow      = time.Second
	MaxFailureWindow      = time.Hour
	MinFailures           = 100
)

// Desired states.
const (
	Running = "running"
	Paused  = "paused"
	// Completed is what a bounded run becomes by itself when it has got to its end.
	Completed = "completed"
	// Deleting is what a deployment is between the decision to delete it and the end of the last trace of it: it does not run, and
	// its name is not free yet.
	Deleting = "deleting"
)

// Spec is a deployment as its user wants it. It is stored as JSON in the catalog.
type Spec struct {
	Name    string            `json:"name"`
	Version int               `json:"version"` // of module, topics and settings; grows by one with each deploy and rollback
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
	Until string `json:"until,omitempty"`
	Start string `json:"start"` // latest, earliest, an offset, an RFC 3339 time or a duration ago
	// Starts are where Start was in each input when that became one; nobody deploys them, they are found. Without, in what older
	// versions of Millstream stored, Start is looked for when the group joins.
	Starts map[string]TopicStart `json:"starts,omitempty"`
	// Ends are where a bounded run ends in the partitions of each input, found when it began: it ends there, however often it
	// is interrupted. Nil: not found yet.
	Ends    map[string]TopicEnd `json:"ends,omitempty"`
	State   string              `json:"state"`
	Created time.Time           `json:"created"` // of version 1
	Changed time.Time           `json:"changed"` // the state too
	// Deployed is when this version was; zero in what older versions of Millstream stored.
	Deployed time.Time `json:"deployed,omitzero"`
	// By is who deployed this version, as the client told: user@host.
	By string `json:"by,omitempty"`
	// Rollback is the version that this one repeats; 0: none.
	Rollback int `json:"rollback,omitempty"`
}

// TopicStart is where a deployment begins in the partitions of an input that it has never committed.
type TopicStart struct {
	ID      string  `json:"id,omitempty"` // of the topic, which changes when it is made anew; "" where the log has none
	Offsets []int64 `json:"offsets"`      // by partition
}

// TopicEnd is where a bounded run ends in the partitions of an input.
type TopicEnd struct {
	ID      string  `json:"id,omitempty"` // as that of TopicStart; of one that was made anew nothing has a part in the run
	Offsets []int64 `json:"offsets"`      // by partition; those beyond have no part in it
}

// DeployedAt is when this version was deployed.
func (s Spec) DeployedAt() time.Time {
	if s.Deployed.IsZero() {
		return s.Created
	}
	return s.Deployed
}

// After is s as the version that follows before; without a before, which has no name then, as the first one. What its
// user left out of start and state stays as it was.
func (s Spec) After(before Spec, now time.Time) Spec {
	s.Version, s.Created, s.Changed, s.Deployed = before.Version+1, now, now, now
	if before.Name == "" {
		return s
	}
	s.Created = before.Created
	s.Start = cmp.Or(s.Start, before.Start)
	s.State = cmp.Or(s.State, before.AfterState())
	return s
}

// SameRun tells whether s goes on with the bounded run of before, to its end, or begins another one.
func (s Spec) SameRun(before Spec) bool {
	return s.Until == before.Until && slices.Equal(s.Inputs, before.Inputs) && before.State != Completed
}

// AfterState is the desired state of the version after: a deployment that is paused stays so.
func (s Spec) AfterState() string {
	if s.State == Paused {
		return Paused
	}
	return Running
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
