package runtime

import (
	"time"

	"github.com/millstream-io/millstream/runtime/deploy"
)

// keepInterval is how often the offsets of deployments that do not run are
// committed once more. Brokers forget those of a group without members after days.
const keepInterval = 6 * time.Hour

// keepHouse keeps the place of deployments that rest, however long, and forgets modules that nobody needs: at the start, for the
// process may have been away for longer than a group is remembered, and from time to time.
func keepHouse(r *Runtime) {
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	for {
		r.collectGarbage()
		for _, d := range r.all() {
			// The second has the marks of which dead letters were retried.
			for _, group := range []string{deploy.GroupName(d.name), deploy.DeadLetterTopic(d.name)} {
				if err := r.engine.KeepGroup(r.ctx, group); err != nil && r.ctx.Err() == nil {
					r.logger.Warn("the offsets of a group were not kept from expiring", "deployment", d.name, "group", group, "error", err)
				}
			}
		}
		select {
		case <-ticker.C:
		case <-r.ctx.Done():
			return
		}
	}
}
