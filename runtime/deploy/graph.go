package deploy

import (
	"fmt"
	"slices"
	"strings"
)

// CheckCycle tells that s together with the others sends no record round in
// circles; dead letters count as an output. The error wraps ErrCycle and names the way round.
func (s Spec) CheckCycle(others []Spec) error {
	readers := make(map[string][]Spec)
	for _, o := range append(slices.Clone(others), s) {
		for _, t := range o.Inputs {
			readers[t] = append(readers[t], o)
		}
	}
	// A new cycle passes through s, so a walk from s that comes back finds it.
	walk := walk{readers: readers, target: s.Name, seen: map[string]bool{}}
	if path := walk.from(s); path != nil {
		return fmt.Errorf("%w: %s; records would go round without end: write to another topic", ErrCycle, strings.Join(path, " → "))
	}
	return nil
}

type walk struct {
	readers map[string][]Spec
	target  string
	seen    map[string]bool // deployments that lead nowhere
}

// from returns the way from s back to the target, beginning with s, or nil.
func (w *walk) from(s Spec) []string {
	w.seen[s.Name] = true
	for _, topic := range s.WrittenTopics() {
		for _, next := range w.readers[topic] {
			if next.Name == w.target {
				return []string{s.Name, topic, next.Name}
			}
			if w.seen[next.Name] {
				continue
			}
			if path := w.from(next); path != nil {
				return append([]string{s.Name, topic}, path...)
			}
		}
	}
	return nil
}

// WrittenTopics are the topics the deployment may write to: its outputs and, by its error policy, its dead letters.
func (s Spec) WrittenTopics() []string {
	topics := make([]string, 0, len(s.Outputs)+1)
	for _, o := range s.Outputs {
		topics = append(topics, o.Topic)
	}
	if s.OnError == OnErrorDeadLetter {
		topics = append(topics, DeadLetterTopic(s.Name))
	}
	return topics
}

// Topics are the inputs and outputs that must exist before the deployment starts, each once.
func (s Spec) Topics() []string {
	topics := slices.Clone(s.Inputs)
	for _, o := range s.Outputs {
		if !slices.Contains(topics, o.Topic) {
			topics = append(topics, o.Topic)
		}
	}
	return topics
}

// CheckTopics tells that all topics of s are among the existing ones
// (partition counts by name). The error wraps ErrMissingTopics and names the missing and the fix.
func (s Spec) CheckTopics(existing map[string]int) error {
	var missing []string
	for _, t := range s.Topics() {
		if _, ok := existing[t]; !ok {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s; deploy with --create-topics, or create them: `millstream topic create %s`",
		ErrMissingTopics, strings.Join(missing, ", "), missing[0])
}
