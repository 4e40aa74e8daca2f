package serve

import (
	"context"
	"errors"

	"github.com/millstream-io/millstream/cli/command"
)

// UntilStopped waits for the end of ctx or for a failure, closes the process, and tells a person so.
func (p *Process) UntilStopped(ctx context.Context, env *command.Env) error {
	var err error
	select {
	case <-ctx.Done():
		env.Notef("stopping; once more ends at once\n")
	case err = <-p.Failed():
	}
	if closeErr := p.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	if err == nil && !env.JSON {
		env.Printf("stopped\n")
	}
	return err
}
