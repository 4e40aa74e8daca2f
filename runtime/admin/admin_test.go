package admin

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/worker/workertest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

//go:embed testdata/drop.wasm
var dropModule []byte

// api is a server on a port of its own, with its client.
type api struct {
	t      *testing.T
	log    *workertest.Log
	client *Client
	url    string
	http   *http.Client
}

func newAPI(t *testing.T, ready func() error) *api {
	t.Helper()
	a := &api{t: t, log: workertest.NewLog(), http: &http.Client{Transport: &http.Transport{}}}
	logger := slog.New(slog.DiscardHandler)
	h, err := host.New(t.Context(), host.Options{Logger: logger})
	a.ok(err)
	r, err := runtime.Open(t.Context(), runtime.Options{Engine: a.log, Host: h, Logger: logger})
	a.ok(err)
	info := Info{Version: "1.2.3", ClusterID: "c", Brokers: []string{"127.0.0.1:9092"}, StartedAt: time.Unix(1, 0).UTC()}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "millstream_up 1") })
	s := NewServer(r, info, metrics, ready)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	a.ok(err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	a.url = "http://" + l.Addr().String()
	a.client, err = NewClient(a.url, a.http)
	a.ok(err)
	t.Cleanup(func() {
		a.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		a.ok(s.Close(ctx))
		a.ok(<-served)
		a.ok(r.Close(ctx))
		a.ok(h.Close(ctx))
	})
	return a
}

func (a *api) ok(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// send makes a raw request and returns the answer's status and body.
func (a *api) send(method, path, host string, body io.Reader, headers ...string) (int, string) {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	a.ok(err)
	if host != "" {
		request.Host = host
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := a.http.Do(request)
	a.ok(err)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	a.ok(err)
	return response.StatusCode, string(b)
}

func (a *api) upload() *ModuleInfo {
	a.t.Helper()
	m, err := a.client.UploadModule(a.t.Context(), bytes.NewReader(dropModule), int64(len(dropModule)))
	a.ok(err)
	return m
}

func wantProblem(t *testing.T, err error, status int, detail string) {
	t.Helper()
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Status != status || !strings.Contains(p.Error(), detail) {
		t.Errorf("error is %v, want status %d and %q", err, status, detail)
	}
}

func TestTheLifeOfADeployment(t *testing.T) {
	a := newAPI(t, nil)
	ctx := t.Context()
	m := a.upload()
	if m.Digest != module.DigestOf(dropModule).String() || m.SizeBytes != len(dropModule) {
		t.Errorf("module is %+v", m)
	}
	asset, err := a.client.UploadAsset(ctx, strings.NewReader("hola"), -1)
	a.ok(err)
	request := DeployRequest{
		Spec: deploy.Spec{
			Name: "drop", Module: m.Digest, Inputs: []string{"in"}, Outputs: []deploy.Output{{Topic: "out"}},
			Start: "earliest", Assets: map[string]string{"words": asset.Digest},
		},
		CreateTopics: true, Partitions: 2,
	}
	s, err := a.client.Deploy(ctx, request)
	a.ok(err)
	if s.Phase != "running" || s.Spec.Version != 1 || s.Spec.OnError != deploy.OnErrorDeadLetter || len(s.Partitions) != 2 {
		t.Errorf("status is %+v", s)
	}
	a.ok(a.log.Append(ctx, "in", []engine.Record{{Value: []byte("x")}}))
	a.ok(a.log.Wait(ctx, func() bool { return a.log.Committed("drop", "in", 0) == 1 }))
	list, err := a.client.List(ctx)
	a.ok(err)
	if len(list) != 1 || list[0].Partitions[0].Committed != 1 || list[0].Lag != 0 || !list[0].Partitions[0].Running {
		t.Errorf("list is %+v", list)
	}
	again, err := a.client.Deploy(ctx, request)
	a.ok(err)
	if !again.Unchanged || again.Spec.Version != 1 {
		t.Errorf("deployed again without a change: %+v", again)
	}
	request.New = true
	_, err = a.client.Deploy(ctx, request)
	wantProblem(t, err, http.StatusConflict, `"drop" is at version 1`)
	s, err = a.client.Pause(ctx, "drop")
	a.ok(err)
	if s.Phase != "paused" {
		t.Errorf("paused: %+v", s)
	}
	s, err = a.client.Resume(ctx, "drop")
	a.ok(err)
	if s.Phase != "running" {
		t.Errorf("resumed: %+v", s)
	}
	a.ok(a.client.Delete(ctx, "drop"))
	_, err = a.client.Get(ctx, "drop")
	wantProblem(t, err, http.StatusNotFound, `"drop"`)
}

// TestVersions: plan, deploy, history, rollback and reset over HTTP.
func TestVersions(t *testing.T) {
	a := newAPI(t, nil)
	ctx := t.Context()
	m, err := a.client.TryModule(ctx, bytes.NewReader(dropModule), -1)
	a.ok(err)
	asset, err := a.client.TryAsset(ctx, strings.NewReader("hola"), -1)
	a.ok(err)
	spec := deploy.Spec{Name: "drop", Module: m.Digest, Inputs: []string{"in"}, Outputs: []deploy.Output{{Topic: "out"}}, By: "me@here"}
	request := DeployRequest{Spec: spec, CreateTopics: true}
	request.Spec.Assets = map[string]string{"words": asset.Digest}
	plan, err := a.client.Plan(ctx, request)
	a.ok(err)
	if plan.Action != runtime.ActionCreate || plan.Before != nil || len(plan.CreateTopics) != 2 || plan.After.Version != 1 {
		t.Errorf("plan is %+v", plan)
	}
	_, err = a.client.Deploy(ctx, request)
	wantProblem(t, err, http.StatusNotFound, "upload it")

	a.upload()
	request.Spec.Assets = nil
	_, err = a.client.Deploy(ctx, request)
	a.ok(err)
	request.Spec.OnError = deploy.OnErrorSkip
	s, err := a.client.Deploy(ctx, request)
	a.ok(err)
	if s.Spec.Version != 2 {
		t.Errorf("upgraded: %+v", s.Spec)
	}
	history, err := a.client.History(ctx, "drop")
	a.ok(err)
	if len(history) != 2 || !history[0].Current || history[0].Spec.By != "me@here" || history[0].Changes[0].Field != "on_error" || history[1].Changes != nil {
		t.Errorf("history is %+v", history)
	}
	s, err = a.client.Rollback(ctx, "drop", RollbackRequest{By: "you@there"})
	a.ok(err)
	if s.Spec.Version != 3 || s.Spec.Rollback != 1 || s.Spec.OnError != deploy.OnErrorDeadLetter || s.Spec.By != "you@there" {
		t.Errorf("rolled back: %+v", s.Spec)
	}
	_, err = a.client.Rollback(ctx, "drop", RollbackRequest{Version: 9})
	wantProblem(t, err, http.StatusNotFound, "no version 9")

	a.ok(a.log.Append(ctx, "in", []engine.Record{{Value: []byte("x")}}))
	a.ok(a.log.Wait(ctx, func() bool { return a.log.Committed("drop", "in", 0) == 1 }))
	_, err = a.client.Reset(ctx, "drop", ResetRequest{To: "earliest"})
	wantProblem(t, err, http.StatusConflict, "millstream pause drop")
	_, err = a.client.Pause(ctx, "drop")
	a.ok(err)
	changes, err := a.client.Reset(ctx, "drop", ResetRequest{To: "earliest"})
	a.ok(err)
	if want := (OffsetChange{Topic: "in", From: 1}); len(changes) != 1 || changes[0] != want {
		t.Errorf("reset %+v, want %+v", changes, want)
	}
	_, err = a.client.Reset(ctx, "drop", ResetRequest{To: "soon"})
	wantProblem(t, err, http.StatusBadRequest, "earliest")
}

func TestWhatIsRefused(t *testing.T) {
	a := newAPI(t, nil)
	ctx := t.Context()
	m := a.upload()
	spec := deploy.Spec{Name: "d", Module: m.Digest, Inputs: []string{"in"}, Outputs: []deploy.Output{{Topic: "out"}}}
	deployed := func(change func(*deploy.Spec)) error {
		s := spec
		change(&s)
		_, err := a.client.Deploy(ctx, DeployRequest{Spec: s})
		return err
	}
	uploaded := func(b []byte) error {
		_, err := a.client.UploadModule(ctx, bytes.NewReader(b), int64(len(b)))
		return err
	}
	a.ok(a.log.EnsureTopic(ctx, "read", 1, nil))
	a.ok(a.log.EnsureTopic(ctx, "written", 1, nil))
	stranger, err := a.log.Join(ctx, engine.Group{Name: "busy", Client: "stranger", Inputs: []string{"read"}})
	a.ok(err)
	t.Cleanup(func() { a.ok(stranger.Leave(context.Background())) })
	for _, c := range []struct {
		name   string
		err    error
		status int
		detail string
	}{
		{"group of a stranger", deployed(func(s *deploy.Spec) {
			s.Name, s.Inputs, s.Outputs[0].Topic = "busy", []string{"read"}, "written"
		}), http.StatusConflict, "`millstream group describe busy`"},
		{"text as a module", uploaded([]byte("no wasm")), http.StatusUnprocessableEntity, ""},
		{"a module without the ABI", uploaded([]byte("\x00asm\x01\x00\x00\x00")), http.StatusUnprocessableEntity, "memory"},
		{"nothing", uploaded(nil), http.StatusBadRequest, "the body is empty"},
		{"a module over the cap", uploaded(make([]byte, MaxModuleBytes+1)), http.StatusRequestEntityTooLarge, "too large"},
		{"missing topics", deployed(func(*deploy.Spec) {}), http.StatusConflict, "--create-topics"},
		{"bad name", deployed(func(s *deploy.Spec) { s.Name = "a/b" }), http.StatusBadRequest, `"a/b"`},
		{"module not there", deployed(func(s *deploy.Spec) { s.Module = module.DigestOf(nil).String() }), http.StatusNotFound, "upload it"},
		{"nobody by this name", a.client.Delete(ctx, "a/../b"), http.StatusNotFound, "a/../b"},
	} {
		t.Run(c.name, func(t *testing.T) { wantProblem(t, c.err, c.status, c.detail) })
	}
}

func TestRawRequests(t *testing.T) {
	a := newAPI(t, func() error { return errors.New("recovering the log") })
	own := strings.TrimPrefix(a.url, "http://")
	for _, c := range []struct {
		name, method, path, host, body string
		headers                        []string
		status                         int
		want                           string
	}{
		{name: "health", method: "GET", path: PathHealth, status: 200, want: `"ok"`},
		{name: "not ready", method: "GET", path: PathReady, status: 503, want: "recovering the log"},
		{name: "metrics", method: "GET", path: PathMetrics, status: 200, want: "millstream_up 1"},
		{name: "info", method: "GET", path: PathInfo, status: 200, want: `"version":"1.2.3"`},
		{name: "empty list", method: "GET", path: PathDeployments, status: 200, want: "[]"},
		{name: "unknown path", method: "GET", path: "/v1/nothing", status: 404},
		{name: "unknown method", method: "PUT", path: PathDeployments, status: 405},
		{name: "broken JSON", method: "POST", path: PathDeployments, body: "{", status: 400, want: "malformed request"},
		{name: "unknown field", method: "POST", path: PathDeployments, body: `{"sepc":{}}`, status: 400, want: `unknown field \"sepc\"`},
		{name: "two values", method: "POST", path: PathDeployments, body: `{} {}`, status: 400, want: "more than one JSON value"},
		{name: "large JSON", method: "POST", path: PathDeployments, body: `{"spec":{"name":"` + strings.Repeat("x", maxRequestBytes) + `"}}`, status: 413, want: "too large"},
		{name: "own host", method: "GET", path: PathInfo, host: own, status: 200},
		{name: "localhost", method: "GET", path: PathInfo, host: "localhost:9644", status: 200},
		{name: "IPv6", method: "GET", path: PathInfo, host: "[::1]:9644", status: 200},
		{name: "rebound name", method: "GET", path: PathInfo, host: "evil.example:9644", status: 403, want: "evil.example"},
		{name: "localhost as a part", method: "GET", path: PathInfo, host: "localhost.evil.example", status: 403},
		{name: "other site", method: "POST", path: PathDeployments, body: "{}", headers: []string{"Sec-Fetch-Site", "cross-site"}, status: 403, want: "other origins"},
		{name: "other origin", method: "DELETE", path: PathDeployments + "/x", headers: []string{"Origin", "http://evil.example"}, status: 403, want: "other origins"},
		{name: "own origin", method: "DELETE", path: PathDeployments + "/x", headers: []string{"Origin", a.url}, status: 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := a.send(c.method, c.path, c.host, strings.NewReader(c.body), c.headers...)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("answer is %d %.300s, want %d with %q", status, body, c.status, c.want)
			}
			var p Problem
			if status >= 400 && status != 405 && !strings.HasPrefix(body, "404") && (json.Unmarshal([]byte(body), &p) != nil || p.Status != status || p.Title == "") {
				t.Errorf("%q is no problem document", body)
			}
		})
	}
}

func TestEveryProblemHasAStatusAndAName(t *testing.T) {
	seen := map[string]int{}
	for _, k := range problemKinds() {
		if k.name == "" || k.title == "" || k.status < 400 {
			t.Errorf("row %+v is not complete", k)
		}
		if before, ok := seen[k.name]; ok && before != k.status {
			t.Errorf("problem %s is answered with %d and with %d", k.name, before, k.status)
		}
		seen[k.name] = k.status
	}
	if p := problemOf(errors.New("odd")); p.Status != http.StatusInternalServerError || p.Detail != "odd" {
		t.Errorf("an unknown error is answered with %+v", p)
	}
}

func TestClientWithoutAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer other.Close()
	broken := httptest.NewServer(http.NotFoundHandler())
	defer broken.Close()
	for _, url := range []string{address, other.URL, broken.URL} {
		c, err := NewClient(url, other.Client())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Info(t.Context())
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "MILLSTREAM_ADMIN") || !strings.Contains(err.Error(), url) {
			t.Errorf("error is %v", err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:9644", "ftp://x", "http://"} {
		if _, err := NewClient(bad, nil); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:9644") {
			t.Errorf("%q is taken as an address (%v)", bad, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := NewClient(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
