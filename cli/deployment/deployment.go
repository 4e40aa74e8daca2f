// Package deployment holds the commands about deployments: deploy, list, status, logs, pause, resume, delete, rollback, history, reset.
package deployment

import (
	"context"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
)

const category = "Deployments"

// names lists deployments for shell completion; without a server there are none.
func names(env *command.Env) func(context.Context, []string) []string {
	return func(ctx context.Context, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		a := &connect.Admin{URL: connect.DefaultAdmin}
		if u := env.Getenv("MILLSTREAM_ADMIN"); u != "" {
			a.URL = u
		}
		client, err := a.Open()
		if err != nil {
			return nil
		}
		defer client.Close()
		list, err := client.List(ctx)
		if err != nil {
			return nil
		}
		var out []string
		for _, s := range list {
			out = append(out, s.Spec.Name)
		}
		return out
	}
}

// route shows where a deployment's records go: "notes → notes.es, es=notes.fr".
func route(s deploy.Spec) string {
	var outputs []string
	for _, o := range s.Outputs {
		if len(s.Outputs) == 1 {
			outputs = append(outputs, o.Topic)
			continue
		}
		outputs = append(outputs, o.Name+"="+o.Topic)
	}
	return strings.Join(s.Inputs, ", ") + " → " + strings.Join(outputs, ", ")
}

// colouredPhase marks what is well and what is not.
func colouredPhase(s terminal.Style, phase string) string {
	switch phase {
	case "running", "completed":
		return s.Good(phase)
	case "failed":
		return s.Bad(phase)
	}
	return s.Warn(phase)
}

// tell prints what is to be said about a deployment, if anything is. Some of it are words of its module.
func tell(env *command.Env, remarks ...string) {
	for _, remark := range remarks {
		if remark != "" {
			env.Printf("  %s\n", terminal.Escape([]byte(remark)))
		}
	}
}

// act opens the admin API, does one thing with one deployment and explains what went wrong.
func act(a *connect.Admin, do func(*connect.AdminClient) (*admin.Status, error)) (*admin.Status, error) {
	client, err := a.Open()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	s, err := do(client)
	return s, client.Explain(err)
}
