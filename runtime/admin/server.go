package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/millstream-io/millstream/runtime"
)

const (
	readHeaderTimeout = 10 * time.Second
	// bodyTimeout bounds a whole request: the largest body over a slow line, and a compile of up to half a minute.
	bodyTimeout = 2 * time.Minute
	idleTimeout = 2 * time.Minute
	headerBytes = 64 << 10
	// maxUploads is how many modules and assets may be in memory on their way at the same time.
	maxUploads = 4
)

var (
	errBadRequest = errors.New("malformed request")
	errBusy       = errors.New("too many uploads at the same time: try again")
	errNotReady   = errors.New("not ready")
)

// Server serves the API of a runtime.
type Server struct {
	runtime *runtime.Runtime
	info    Info
	ready   func() error
	uploads chan struct{}
	http    *http.Server
}

// NewServer makes a server. ready tells whether the process serves; metrics is
// the /metrics handler. Either may be nil.
func NewServer(r *runtime.Runtime, info Info, metrics http.Handler, ready func() error) *Server {
	s := &Server{runtime: r, info: info, ready: ready, uploads: make(chan struct{}, maxUploads)}
	s.http = &http.Server{
		Handler:           guard(s.routes(metrics)),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	return s
}

// Serve serves until Close. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin API on %s: %w", l.Addr(), err)
	}
	return nil
}

// Close waits for the requests in hand as long as ctx lasts, then drops them.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		return s.http.Close()
	}
	return err
}

// route answers one request: a value to be shown as JSON (nil: no content) or an error.
type route func(w http.ResponseWriter, r *http.Request) (any, error)

func (f route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := f(w, r)
	if err != nil {
		problemOf(err).write(w)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	b, err := json.Marshal(answer)
	if err != nil {
		problemOf(err).write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // an error is the client's connection
}

func (s *Server) routes(metrics http.Handler) http.Handler {
	one := PathDeployments + "/{name}"
	mux := http.NewServeMux()
	for pattern, f := range map[string]route{
		"GET " + PathInfo:           s.getInfo,
		"POST " + PathModules:       s.postModule,
		"POST " + PathAssets:        s.postAsset,
		"POST " + PathDeployments:   s.postDeployment,
		"GET " + PathDeployments:    s.listDeployments,
		"GET " + one:                s.named(s.runtime.Status),
		"DELETE " + one:             s.deleteDeployment,
		"POST " + one + "/pause":    s.named(s.runtime.Pause),
		"POST " + one + "/resume":   s.named(s.runtime.Resume),
		"POST " + one + "/rollback": s.rollback,
		"POST " + one + "/reset":    s.reset,
		"GET " + one + "/history":   s.history,
		"POST " + PathPlans:         s.postPlan,
		"GET " + PathHealth:         func(http.ResponseWriter, *http.Request) (any, error) { return health{"ok"}, nil },
		"GET " + PathReady:          s.getReady,
	} {
		mux.Handle(pattern, f)
	}
	if metrics != nil {
		mux.Handle("GET "+PathMetrics, metrics)
	}
	return mux
}

type health struct {
	Status string `json:"status"`
}

func (s *Server) getReady(_ http.ResponseWriter, _ *http.Request) (any, error) {
	if s.ready == nil {
		return health{"ready"}, nil
	}
	if err := s.ready(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotReady, err)
	}
	return health{"ready"}, nil
}

func (s *Server) getInfo(http.ResponseWriter, *http.Request) (any, error) { return s.info, nil }

func (s *Server) postModule(w http.ResponseWriter, r *http.Request) (any, error) {
	wasm, done, err := s.upload(w, r, MaxModuleBytes)
	if err != nil {
		return nil, err
	}
	defer done()
	put := s.runtime.PutModule
	if onlyTried(r) {
		put = s.runtime.TryModule
	}
	report, err := put(r.Context(), wasm)
	if err != nil {
		return nil, err
	}
	return ModuleInfo{Digest: report.Digest.String(), SizeBytes: report.SizeBytes, Manifest: report.Manifest, Warnings: report.Warnings}, nil
}

func (s *Server) postAsset(w http.ResponseWriter, r *http.Request) (any, error) {
	b, done, err := s.upload(w, r, MaxAssetBytes)
	if err != nil {
		return nil, err
	}
	defer done()
	if onlyTried(r) {
		return AssetInfo{Digest: s.runtime.TryAsset(b).String(), SizeBytes: len(b)}, nil
	}
	digest, err := s.runtime.PutAsset(r.Context(), b)
	if err != nil {
		return nil, err
	}
	return AssetInfo{Digest: digest.String(), SizeBytes: len(b)}, nil
}

// onlyTried tells that an upload is for a plan.
func onlyTried(r *http.Request) bool { return r.URL.Query().Get("try") == "true" }

// upload reads a body of raw bytes; done gives its place to the next upload.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, maxBytes int64) (b []byte, done func(), err error) {
	if r.ContentLength > maxBytes {
		return nil, nil, &http.MaxBytesError{Limit: maxBytes}
	}
	select {
	case s.uploads <- struct{}{}:
	case <-time.After(readHeaderTimeout):
		return nil, nil, errBusy
	case <-r.Context().Done():
		return nil, nil, r.Context().Err()
	}
	done = func() { <-s.uploads }
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBytes)); err != nil {
		done()
		return nil, nil, readError(err)
	}
	if body.Len() == 0 {
		done()
		return nil, nil, fmt.Errorf("%w: the body is empty: send the file's bytes", errBadRequest)
	}
	return body.Bytes(), done, nil
}

func readError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return fmt.Errorf("%w: read the body: %w", errBadRequest, err)
}

func (s *Server) listDeployments(_ http.ResponseWriter, r *http.Request) (any, error) {
	list, err := s.runtime.List(r.Context())
	if err != nil {
		return nil, err
	}
	answer := make([]Status, len(list))
	for i, status := range list {
		answer[i] = statusOf(status)
	}
	return answer, nil
}

func (s *Server) deleteDeployment(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, s.runtime.Undeploy(r.Context(), r.PathValue("name"))
}

// named is a route for an operation on one deployment.
func (s *Server) named(f func(ctx context.Context, name string) (runtime.Status, error)) route {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		status, err := f(r.Context(), r.PathValue("name"))
		if err != nil {
			return nil, err
		}
		return statusOf(status), nil
	}
}
