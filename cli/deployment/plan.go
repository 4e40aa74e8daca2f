package deployment

import (
	"context"
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/millstream-io/millstream/runtime/deploy"
)

// plan shows what deploy would do. Nothing is stored for it.
func (o *deployOptions) plan(ctx context.Context, client *connect.AdminClient, spec deploy.Spec, wasm []byte, assets map[string][]byte) error {
	progress := terminal.NewProgress(o.env.Err, o.env.ErrTerminal && !o.env.JSON, "uploading and compiling "+o.source)
	_, err := o.upload(ctx, uploads{client.TryModule, client.TryAsset}, progress, &spec, wasm, assets)
	var plan *admin.Plan
	if err == nil {
		plan, err = client.Plan(ctx, o.request(spec))
	}
	progress.Done()
	if err != nil {
		return client.Explain(err)
	}
	if o.env.JSON {
		return o.env.PrintJSON(plan)
	}
	o.env.Printf("%s\n", whatWouldHappen(plan))
	if err := o.changes(plan.Changes); err != nil {
		return err
	}
	if len(plan.CreateTopics) > 0 {
		o.env.Printf("  topics to be created: %s\n", strings.Join(plan.CreateTopics, ", "))
	}
	o.env.Notef("the module starts with this configuration; nothing was changed (--dry-run)\n")
	return nil
}

func whatWouldHappen(p *admin.Plan) string {
	name, version := p.After.Name, p.After.Version
	switch p.Action {
	case runtime.ActionCreate:
		return fmt.Sprintf("%s would begin: %s", name, route(p.After))
	case runtime.ActionSwap:
		return fmt.Sprintf("%s would get version %d at the end of a transaction, without leaving its group", name, version)
	case runtime.ActionRestart:
		return fmt.Sprintf("%s would be stopped, and version %d begin at its committed offsets", name, version)
	case runtime.ActionStore:
		return fmt.Sprintf("%s would get version %d and stay %s", name, version, p.After.State)
	}
	return fmt.Sprintf("%s would stay as it is, at version %d", name, version)
}

func (o *deployOptions) changes(changes []deploy.Change) error {
	if len(changes) == 0 {
		return nil
	}
	t := terminal.NewTable(o.env.Out)
	for _, c := range changes {
		t.Row("  "+c.Field, difference(c))
	}
	return t.Flush()
}

// difference shows both sides of a change.
func difference(c deploy.Change) string {
	side := func(text string) string {
		switch {
		case text == "":
			return "-"
		case c.Field == "module", strings.HasPrefix(c.Field, "assets."):
			return shortDigest(text)
		}
		return text
	}
	return side(c.Before) + " → " + side(c.After)
}
