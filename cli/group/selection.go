package group

import (
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
)

// selection says which partitions --topic names: nil for a topic is all of them.
type selection map[string]map[int32]bool

// parseSelection reads TOPIC and TOPIC:PARTITION. A topic's name holds no colon.
func parseSelection(values []string) (selection, error) {
	out := selection{}
	for _, s := range values {
		name, number, one := strings.Cut(s, ":")
		p, err := int64(-1), error(nil)
		if one {
			p, err = strconv.ParseInt(number, 10, 32)
		}
		if name == "" || err != nil || (one && p < 0) {
			return nil, command.Usagef("--topic %q is not TOPIC or TOPIC:PARTITION", s)
		}
		before, seen := out[name]
		switch {
		case !one:
			out[name] = nil
		case seen && before == nil:
			// all of them already
		case !seen:
			out[name] = map[int32]bool{int32(p): true}
		default:
			before[int32(p)] = true
		}
	}
	return out, nil
}

func (s selection) has(topic string, partition int32) bool {
	only, ok := s[topic]
	return ok && (only == nil || only[partition])
}
