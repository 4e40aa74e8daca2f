package deployment

import (
	"cmp"
	"os"
	osuser "os/user"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/terminal"
	"github.com/millstream-io/millstream/runtime/deploy"
)

// spec is the deployment that the flags describe, without what uploading answers. The server validates it.
func (o *deployOptions) spec() (deploy.Spec, error) {
	config, err := pairs("config", "KEY=VALUE", o.config.Value())
	if err != nil {
		return deploy.Spec{}, err
	}
	limits, err := o.limits()
	if err != nil {
		return deploy.Spec{}, err
	}
	if err := o.checkNumbers(); err != nil {
		return deploy.Spec{}, err
	}
	s := deploy.Spec{
		Name: o.name, Inputs: o.from.Value(), Config: config, Limits: limits, OnError: o.onError, Start: startPosition(o.start),
		Delivery: o.delivery, Until: o.until, By: user(o.env),
	}
	if o.retries != unset {
		s.Retries = &o.retries
	}
	if o.failLimit != "" {
		if s.FailureLimit, err = deploy.ParseFailureLimit(o.failLimit); err != nil {
			return deploy.Spec{}, command.Usagef("--fail-limit: %w", err)
		}
	}
	if _, err := deploy.ParseUntil(s.Until); err != nil {
		return deploy.Spec{}, command.Usagef("--until: %w", err)
	}
	for _, to := range o.to.Value() {
		output := deploy.Output{Topic: to}
		if name, topic, ok := strings.Cut(to, "="); ok {
			output = deploy.Output{Name: name, Topic: topic}
		}
		s.Outputs = append(s.Outputs, output)
	}
	return s, nil
}

// checkNumbers refuses what the server would take for "not given".
func (o *deployOptions) checkNumbers() error {
	switch {
	case o.partitions < 0:
		return command.Usagef("--partitions %d is negative", o.partitions)
	case o.retries < 0 && o.retries != unset:
		return command.Usagef("--retries %d is negative", o.retries)
	case o.wallTime < 0:
		return command.Usagef("--wall-time %v is negative", o.wallTime)
	}
	return nil
}

// user is who gives the command, as user@host.
func user(env *command.Env) string {
	name := cmp.Or(env.Getenv("USER"), env.Getenv("LOGNAME"), env.Getenv("USERNAME"))
	if name == "" {
		name = "somebody"
		if account, err := osuser.Current(); err == nil { // a cron job or a container has no such variables
			name = account.Username
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "somewhere"
	}
	text := name + "@" + host
	return text[:min(len(text), deploy.MaxByBytes)]
}

// startPosition also takes the words of consume.
func startPosition(s string) string {
	switch s {
	case "start", "beginning":
		return "earliest"
	case "end":
		return "latest"
	}
	return s
}

func (o *deployOptions) limits() (deploy.Limits, error) {
	l := deploy.Limits{FuelPerRecord: o.fuel, WallTime: o.wallTime, LogLines: o.logLines}
	for _, size := range []struct {
		flag, text string
		bytes      *int64
	}{{"memory", o.memory, &l.MemoryBytes}, {"output-bytes", o.outputBytes, &l.OutputBytes}} {
		if size.text == "" {
			continue
		}
		n, err := terminal.ParseSize(size.text)
		if err != nil {
			return l, command.Usagef("--%s: %w", size.flag, err)
		}
		*size.bytes = n
	}
	return l, nil
}

// pairs reads repeated NAME=VALUE flags.
func pairs(flag, form string, values []string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range values {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, command.Usagef("--%s %q is not %s", flag, pair, form)
		}
		if _, twice := out[k]; twice {
			return nil, command.Usagef("--%s %s is given twice", flag, k)
		}
		out[k] = v
	}
	return out, nil
}
