package acceptance

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/module/wasmtest/hostile"
)

// TestHostileModules offers the whole corpus to a server, in this process and in processes of their own: it
// goes on, what must be refused is refused, and what must be stopped is, with its records given up one by one.
func TestHostileModules(t *testing.T) {
	for _, isolation := range []string{"none", "process"} {
		t.Run(isolation, func(t *testing.T) {
			s := start(t, t.TempDir(), "--isolation", isolation)
			s.millstream(t, "", "topic", "create", "in")
			s.millstream(t, "a\nb\n", "produce", "in")
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client, err := admin.NewClient(s.Admin, &http.Client{Transport: transport})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			for _, m := range hostile.Modules() {
				if m.Want == hostile.Refused && isolation == "process" {
					continue // that is decided before there is a process
				}
				got, err := offer(ctx, client, m.Wasm)
				if got != m.Want && !(m.Want == hostile.Harmless && got == hostile.Stopped) {
					t.Errorf("%s was %s (%v), want %s", m.Name, got, err, m.Want)
				}
			}
			if got, err := offer(ctx, client, hostile.Good()); got != hostile.Harmless {
				t.Errorf("a good module was %s afterwards: %v", got, err)
			}
			select {
			case <-s.exited:
				t.Fatalf("the server has ended:\n%s", s.log.String())
			default:
			}
		})
	}
}

// offer deploys a module over two records and tells its fate. A harmless one may still have its records given up, where a topic does not take what it makes.
func offer(ctx context.Context, client *admin.Client, wasm []byte) (hostile.Fate, error) {
	info, err := client.UploadModule(ctx, bytes.NewReader(wasm), int64(len(wasm)))
	if err != nil {
		return fateOf(err), err
	}
	_, err = client.Deploy(ctx, admin.DeployRequest{CreateTopics: true, Spec: deploy.Spec{
		Name: "hostile", Module: info.Digest, Inputs: []string{"in"}, Outputs: []deploy.Output{{Topic: "out"}},
		OnError: deploy.OnErrorSkip, Start: "earliest", Retries: new(int),
		Limits: deploy.Limits{MemoryBytes: 8 << 20, FuelPerRecord: 2_000_000, OutputBytes: 1 << 20, WallTime: 250 * time.Millisecond},
	}})
	if err != nil {
		return fateOf(err), err
	}
	defer client.Delete(ctx, "hostile") //nolint:errcheck // the next Deploy tells
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ; ctx.Err() == nil; <-ticker.C {
		s, err := client.Get(ctx, "hostile")
		switch {
		case err != nil:
			return "lost", err
		case s.Phase == "failed":
			return "failed", errors.New(s.Reason)
		case s.Records+s.Skipped < 2 || s.Lag > 0:
			continue
		case s.Skipped > 0:
			return hostile.Stopped, nil
		}
		return hostile.Harmless, nil
	}
	return "unfinished", ctx.Err()
}

func fateOf(err error) hostile.Fate {
	p, ok := errors.AsType[*admin.Problem](err)
	switch {
	case !ok:
		return "lost"
	case strings.HasSuffix(p.Type, ":module-refused"), strings.HasSuffix(p.Type, ":too-large"), p.Status == http.StatusBadRequest:
		return hostile.Refused
	case strings.HasSuffix(p.Type, ":module-stopped"), strings.HasSuffix(p.Type, ":setup-refused"):
		return hostile.Stopped
	}
	return "failed"
}
