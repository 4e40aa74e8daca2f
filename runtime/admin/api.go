// Package admin is the control API of a server or worker over HTTP, and its
// client: deployments, modules, health, metrics. The API speaks JSON; errors
// are RFC 9457 problems whose detail names the fix.
//
// It is plain net/http: there are nine routes, two of which take raw bytes, and
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
	PathModules     = "/v1/modules"     // POST wasm bytes → ModuleInfo
	PathAssets      = "/v1/assets"      // POST bytes → AssetInfo
	PathDeployments = "/v1/deployments" // POST DeployRequest → Status; GET → []Status; GET, DELETE /{name}; POST /{name}/pause, /{name}/resume
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

// DeployRequest asks for a new deployment.
type DeployRequest struct {
	Spec deploy.Spec `json:"spec"`
	// CreateTopics creates inputs and outputs that do not exist.
	CreateTopics bool `json:"create_topics"`
	// Partitions of created topics; 0 = as many as the first input has, else the default.
	Partitions int `json:"partitions,omitempty"`
}

// Status is a deployment and how it does.
type Status struct {
	Spec deploy.Spec `json:"spec"`
	// Phase: starting, running, paused, failed (see Reason), retrying.
	Phase string `json:"phase"`
	// Reason explains in a sentence, with the fix, why the phase is not running.
	Reason     string            `json:"reason,omitempty"`
	ModuleName string            `json:"module_name,omitempty"`
	Lag        int64             `json:"lag_records"`
	Records    int64             `json:"records_in"` // since this process started it
	Outputs    int64             `json:"records_out"`
	Rejected   int64             `json:"records_rejected"`
	Restarts   int64             `json:"instance_restarts"`
	Partitions []PartitionStatus `json:"partitions,omitempty"`
}

// PartitionStatus is one input partition of a deployment.
type PartitionStatus struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed_offset"` // -1: none yet
	LogEnd    int64  `json:"log_end_offset"`
	Lag       int64  `json:"lag_records"`
	Running   bool   `json:"running"`
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
