// Package embedded is the engine over the broker in the same process: no
// socket, no client library, batches are read from the page cache and written
// with one append.
package embedded

import (
	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/runtime/engine"
)

// New returns the engine over a broker's topics and groups.
func New(topics *topic.Topics, groups *group.Coordinator) engine.Engine { panic("stub") }
