// Package runtime runs deployments: it keeps modules and deployment
// specifications in the catalog (an internal compacted topic), starts the
// workers of every running deployment over an engine, and tells how they do.
//
// What Deploy has acknowledged survives any end of the process: a new Runtime
// over the same log brings every deployment back. All methods are safe for
// concurrent use.
package runtime

import (
	"context"
	"log/slog"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/prometheus/client_golang/prometheus"
)

// CatalogTopic holds modules, assets and deployments; LogsTopic what guests log.
const (
	CatalogTopic = "__millstream_catalog"
	LogsTopic    = "__millstream_logs"
)

// Options open a runtime.
type Options struct {
	Engine  engine.Engine
	Host    *host.Host
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
}

// Runtime runs deployments.
type Runtime struct{}

// Open reads the catalog and starts every deployment that should run.
func Open(ctx context.Context, o Options) (*Runtime, error) { panic("stub") }

// PutModule checks, compiles and stores a module.
func (r *Runtime) PutModule(ctx context.Context, wasm []byte) (*module.Report, error) { panic("stub") }

// PutAsset stores a file for deployments and returns its digest.
func (r *Runtime) PutAsset(ctx context.Context, b []byte) (module.Digest, error) { panic("stub") }

// DeployOptions go with Deploy.
type DeployOptions struct {
	CreateTopics bool
	Partitions   int
}

// Deploy validates and stores a new deployment, proves that its module starts with this configuration, and starts it.
func (r *Runtime) Deploy(ctx context.Context, s deploy.Spec, o DeployOptions) (Status, error) {
	panic("stub")
}

// Undeploy stops and forgets a deployment; its consumer group's offsets are forgotten too.
func (r *Runtime) Undeploy(ctx context.Context, name string) error         { panic("stub") }
func (r *Runtime) Pause(ctx context.Context, name string) (Status, error)  { panic("stub") }
func (r *Runtime) Resume(ctx context.Context, name string) (Status, error) { panic("stub") }
func (r *Runtime) Status(ctx context.Context, name string) (Status, error) { panic("stub") }
func (r *Runtime) List(ctx context.Context) ([]Status, error)              { panic("stub") }

// Close stops all workers: batches in flight are finished or aborted, offsets committed.
func (r *Runtime) Close(ctx context.Context) error { panic("stub") }

// Status is a deployment and how it does; package admin shows it as JSON.
type Status struct {
	Spec       deploy.Spec
	Phase      string
	Reason     string
	Module     *module.Report
	Records    int64
	Outputs    int64
	Rejected   int64
	Restarts   int64
	Partitions map[engine.TopicPartition]PartitionStatus
}

// PartitionStatus is one input partition of a deployment.
type PartitionStatus struct {
	engine.Position
	Running bool // this process has a session for it
}
