package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/catalog"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
)

// problemKind is how one kind of error is answered.
type problemKind struct {
	is     func(error) bool
	name   string // the problem's type is "urn:millstream:" and this
	title  string
	status int
}

func sentinel(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func kind[E error]() func(error) bool {
	return func(err error) bool {
		_, ok := errors.AsType[E](err)
		return ok
	}
}

// problemKinds is the one table from errors to answers; the first that fits is taken.
func problemKinds() []problemKind {
	return []problemKind{
		{kind[*http.MaxBytesError](), "too-large", "request too large", http.StatusRequestEntityTooLarge},
		{sentinel(errBadRequest), "bad-request", "malformed request", http.StatusBadRequest},
		{sentinel(deploy.ErrInvalid), "invalid", "invalid deployment", http.StatusBadRequest},
		{sentinel(deploy.ErrMissingTopics), "missing-topics", "topics do not exist", http.StatusConflict},
		{sentinel(deploy.ErrExists), "exists", "deployment already exists", http.StatusConflict},
		{sentinel(deploy.ErrConflict), "conflict", "changed meanwhile", http.StatusConflict},
		{sentinel(deploy.ErrActive), "active", "deployment runs", http.StatusConflict},
		{sentinel(deploy.ErrNoVersion), "no-version", "no such version", http.StatusNotFound},
		{sentinel(deploy.ErrCycle), "cycle", "deployments form a cycle", http.StatusConflict},
		{sentinel(deploy.ErrNotFound), "not-found", "deployment not found", http.StatusNotFound},
		{sentinel(catalog.ErrNotFound), "module-not-found", "module or asset not found", http.StatusNotFound},
		{sentinel(catalog.ErrDamaged), "damaged", "stored module or asset is damaged", http.StatusUnprocessableEntity},
		{sentinel(catalog.ErrFull), "catalog-full", "catalog is full", http.StatusInsufficientStorage},
		{sentinel(module.ErrRefused), "module-refused", "module refused", http.StatusUnprocessableEntity},
		{kind[*host.SetupError](), "setup-refused", "module refuses its configuration", http.StatusUnprocessableEntity},
		{kind[*host.Trap](), "module-stopped", "module does not start", http.StatusUnprocessableEntity},
		{sentinel(engine.ErrUnknownTopic), "missing-topics", "topics do not exist", http.StatusConflict},
		{sentinel(engine.ErrGroupActive), "group-active", "consumer group is in use", http.StatusConflict},
		{sentinel(engine.ErrNotAllowed), "not-allowed", "the cluster does not allow it", http.StatusForbidden},
		{sentinel(engine.ErrStorage), "storage", "the log refuses writes", http.StatusServiceUnavailable},
		{sentinel(engine.ErrClosed), "closing", "shutting down", http.StatusServiceUnavailable},
		{sentinel(runtime.ErrClosed), "closing", "shutting down", http.StatusServiceUnavailable},
		{sentinel(errNotReady), "not-ready", "not ready", http.StatusServiceUnavailable},
		{sentinel(errBusy), "busy", "too many uploads", http.StatusServiceUnavailable},
		{sentinel(context.Canceled), "cancelled", "request cancelled", 499},
		{sentinel(context.DeadlineExceeded), "timeout", "took too long", http.StatusGatewayTimeout},
	}
}

// problemOf turns an error into an answer; what is in no row is an internal error, whose text is told all the same: the API is its operator's.
func problemOf(err error) *Problem {
	for _, k := range problemKinds() {
		if k.is(err) {
			return &Problem{Type: problemType(k.name), Title: k.title, Status: k.status, Detail: err.Error()}
		}
	}
	return &Problem{Type: problemType("internal"), Title: "internal error", Status: http.StatusInternalServerError, Detail: err.Error()}
}

func problemType(name string) string { return "urn:millstream:" + name }

func (p *Problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	// An error here is the client's connection; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(p)
}
