// Package admin is the control API of a server or worker over HTTP, and its
// client: deployments, modules, health, metrics. The API speaks JSON; errors
// are RFC 9457 problems whose detail names the fix.
//
// It is plain net/http: there are few routes, two of which take raw bytes, and
// the errors come from one table, so that a framework such as huma (1.1 MB of binary, a
// reflection layer and an error shape of its own) would save a few lines of decoding.
//
// The API has no authentication: whoever reaches the port controls the
// deployments. Web pages do not: requests from another origin are refused, and on a
// loopback address so are requests for a name that is not this machine's (DNS
// rebinding). Requests are bounded in size, header, time and, where they carry modules, number.
package admin

import (
	"time"

	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/module"
)

// Paths of the API.
const (
	PathModules     = "/v1/modules"     // POST wasm bytes → ModuleInfo; ?try=true: for a plan, it is not stored
	PathAssets      = "/v1/assets"      // POST bytes → AssetInfo; ?try=true
	PathDeployments = "/v1/deployments" // POST DeployRequest → Status; GET → []Status; GET, DELETE /{name}; POST /{name}/pause, /resume, /rollback, /reset; GET /{name}/history
	PathPlans       = "/v1/plans"       // POST DeployRequest → Plan
	PathInfo        = "/v1/info"        // GET → Info
	PathMetrics     = "/metrics"
	PathHealth      = "/healthz"
	PathReady       = "/readyz"
)

// Largest bodies of requests, in bytes.
const (
	MaxModuleBytes  = 16 << 20 // the pre-check's own cap is lower and explains itself
	MaxAssetBytes   = catalog.MaxBlobBytes
	maxRequestBytes = 2 << 20 // of a DeployRequest
)

// Info tells about the process behind the API.
type Info struct {
	Version   string    `json:"version"`
	ClusterID string    `json:"cluster_id"`
	Brokers   []string  `json:"brokers"`
	DataDir   string    `json:"data_dir,omitempty"`
	StartedAt time.Time `json:"started_at"`
}

// ModuleInfo describes an uploaded module.
type ModuleInfo struct {
	Digest    string           `json:"digest"`
	SizeBytes int              `json:"size_bytes"`
	Manifest  *module.Manifest `json:"manifest,omitempty"`
	Warnings  []string         `json:"warnings,omitempty"`
}

// AssetInfo describes an uploaded asset.
type AssetInfo struct {
	Digest    string `json:"digest"`
	SizeBytes int    `json:"size_bytes"`
}

// DeployRequest asks for a deployment, for the next version of one, or for the plan of that. Spec.By says who asks.
type DeployRequest struct {
	Spec deploy.Spec `json:"spec"`
	// CreateTopics creates inputs and outputs that do not exist.
	CreateTopics bool `json:"create_topics"`
	// Partitions of created topics; 0 = as many as the first input has, else the default.
	Partitions int `json:"partitions,omitempty"`
	// New refuses a name that is taken.
	New bool `json:"new,omitempty"`
}

// Plan is what a DeployRequest would do.
type Plan struct {
	Action       string          `json:"action"` // create, swap, restart, store or nothing; package runtime says what they are
	Before       *deploy.Spec    `json:"before,omitempty"`
	After        deploy.Spec     `json:"after"`
	Changes      []deploy.Change `json:"changes"`
	CreateTopics []string        `json:"create_topics"`
}

// Version is one version of a deployment.
type Version struct {
	Spec    deploy.Spec     `json:"spec"`
	Current bool            `json:"current,omitempty"`
	Changes []deploy.Change `json:"changes"`         // from the version before; null for the oldest that is kept
	Error   string          `json:"error,omitempty"` // why it cannot be read
}

// RollbackRequest asks for an older version.
type RollbackRequest struct {
	Version int    `json:"version,omitempty"` // 0: the one before the present one
	By      string `json:"by,omitempty"`
}

// ResetRequest asks for other offsets of a deployment that does not run.
type ResetRequest struct {
	To         string  `json:"to"`                   // earliest, latest, an offset, an RFC 3339 time or a duration ago
	Partitions []int32 `json:"partitions,omitempty"` // of every input; none = all
	DryRun     bool    `json:"dry_run,omitempty"`
}

// OffsetChange is where a deployment goes on in one partition.
type OffsetChange struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from_offset"` // -1: none was committed
	To        int64  `json:"to_offset"`
}

// Status is a deployment and how it does. What is counted, the process that answers has counted since it began; offsets and
// lag are those of the consumer group, whoever works for it.
type Status struct {
	Spec deploy.Spec `json:"spec"`
	// Phase: starting, running, paused, completed, failed (see Reason), retrying.
	Phase string `json:"phase"`
	// Reason explains in a sentence, with the fix, why the phase is not running.
	Reason     string `json:"reason,omitempty"`
	ModuleName string `json:"module_name,omitempty"`
	Lag        int64  `json:"lag_records"`
	// Rate is how many records are committed per second, in the last seconds.
	Rate        float64           `json:"records_per_second"`
	Records     int64             `json:"records_in"`
	Outputs     int64             `json:"records_out"`
	Rejected    int64             `json:"records_rejected"` // that got the error policy
	DeadLetters int64             `json:"dead_letters"`
	Skipped     int64             `json:"records_skipped"`
	Retries     int64             `json:"record_retries"` // further tries of records on which the module trapped
	Traps       int64             `json:"traps"`
	Aborts      int64             `json:"transactions_aborted"`
	Commits     int64             `json:"commits"`
	Restarts    int64             `json:"instance_restarts"`
	Partitions  []PartitionStatus `json:"partitions,omitempty"`
	// Members of the consumer group, in all processes; only for one deployment, not in a list.
	Members []Member `json:"members,omitempty"`
	// Hints are sentences about what deserves a look although it runs, with the command for it; as Members.
	Hints []string `json:"hints,omitempty"`
	// Replacing is how many partitions of this process have not changed over to the newest version yet.
	Replacing int `json:"partitions_replacing,omitempty"`
	// Process has counted what is counted, as host-pid; "": the deployment's own process.
	Process string `json:"process,omitempty"`
	// Unchanged says of a deploy that it was all as asked for already.
	Unchanged bool `json:"unchanged,omitempty"`
}

// PartitionStatus is one input partition of a deployment. The times and counts are known where it runs.
type PartitionStatus struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"` // -1: none yet
	LogStart  int64  `json:"log_start_offset"`
	LogEnd    int64  `json:"log_end_offset"`
	Lag       int64  `json:"lag_records"`
	Running   bool   `json:"running"`         // in the process that answers
	Owner     string `json:"owner,omitempty"` // the process that has it, as host-pid, or a stranger's client id
	// Rate is records per second, in the last seconds.
	Rate        float64    `json:"records_per_second"`
	Records     int64      `json:"records_in"`
	Outputs     int64      `json:"records_out"`
	DeadLetters int64      `json:"dead_letters"`
	CommittedAt *time.Time `json:"committed_at,omitempty"`
	// CommitSeconds is how long the last commit took; LatencySeconds from reading its oldest record until it
	// was committed; EventAgeSeconds how old its newest record was then, by its own timestamp.
	CommitSeconds   float64 `json:"commit_seconds,omitempty"`
	LatencySeconds  float64 `json:"latency_seconds,omitempty"`
	EventAgeSeconds float64 `json:"event_age_seconds,omitempty"`
	Completed       bool    `json:"completed,omitempty"` // it is at the end of a bounded run
	Trouble         string  `json:"trouble,omitempty"`   // what is being tried again
}

// Member is a member of a deployment's consumer group.
type Member struct {
	Client     string `json:"client_id"`
	Host       string `json:"host,omitempty"` // empty: in the broker's own process
	Partitions int    `json:"partitions"`
}

// Problem is an error answer (RFC 9457).
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"` // HTTP status; problems.go has the table
	Detail string `json:"detail"`
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}
