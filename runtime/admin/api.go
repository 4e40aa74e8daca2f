// Package admin is the control API of a server or worker over HTTP, and its
// client: deployments, modules, health, metrics. The API speaks JSON; errors
// are RFC 9457 problems whose detail names the fix.
package admin

import (
	"context"
	"io"
	"time"

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
	Status int    `json:"status"` // HTTP status: 400 invalid, 404 not found, 409 conflict, 422 refused module, 503 not ready
	Detail string `json:"detail"`
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

type clientMethods interface {
	Info(ctx context.Context) (*Info, error)
	UploadModule(ctx context.Context, wasm io.Reader, sizeBytes int64) (*ModuleInfo, error)
	UploadAsset(ctx context.Context, b io.Reader, sizeBytes int64) (*AssetInfo, error)
	Deploy(ctx context.Context, r DeployRequest) (*Status, error)
	List(ctx context.Context) ([]Status, error)
	Get(ctx context.Context, name string) (*Status, error)
	Pause(ctx context.Context, name string) (*Status, error)
	Resume(ctx context.Context, name string) (*Status, error)
	Delete(ctx context.Context, name string) error
}
