package broker

import (
	"context"
	"errors"
)

// forgetDeleted forgets the groups' offsets of topics that do not exist: the broker ended between the
// deletion of a topic and that of its offsets. When there is a topic of that name again, its consumers would
// pass records over.
func (b *Broker) forgetDeleted(ctx context.Context) error {
	gone := map[string]bool{}
	for _, g := range b.groups.List() {
		offsets, err := b.groups.Offsets(ctx, g.Group, nil)
		if err != nil {
			return err
		}
		for tp := range offsets {
			if _, ok := b.topics.Lookup(tp.Topic); !ok {
				gone[tp.Topic] = true
			}
		}
	}
	var errs []error
	for name := range gone {
		errs = append(errs, b.groups.ForgetTopic(ctx, name))
	}
	return errors.Join(errs...)
}
