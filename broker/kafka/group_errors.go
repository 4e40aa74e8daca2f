package kafka

import (
	"context"
	"errors"

	"github.com/millstream-io/millstream/broker/coord/group"
	"github.com/twmb/franz-go/pkg/kerr"
)

// groupOutcome returns the code of an error of the group coordinator. That its
// journal takes no writes is told as Kafka tells it: the client looks for the
// coordinator again and tries again, it does not give up.
func (s *Service) groupOutcome(what string, err error) int16 {
	switch {
	case errors.Is(err, group.ErrJournal):
		s.trouble(what, err)
		return kerr.NotCoordinator.Code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return kerr.CoordinatorNotAvailable.Code
	}
	code, _ := s.outcome(what, err)
	return code
}

// text is what an optional string says; null and empty are the same to groups.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// nullable is null for an empty string.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
