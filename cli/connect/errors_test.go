package connect

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Kafka's codes are told in the words of who types commands, with what went before them.
func TestKafkaErrorsInWords(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
		text string
	}{
		{kerr.UnknownTopicOrPartition, command.CodeNotFound, `topic "t": it does not exist`},
		{fmt.Errorf("partition 2: %w", kerr.CoordinatorNotAvailable), command.CodeUnreachable, `topic "t": partition 2: its coordinator is not there`},
		{kerr.NonEmptyGroup, command.CodeConflict, `topic "t": it has members`},
		{kerr.InvalidConfig, command.CodeUsage, `topic "t": Configuration is invalid`},
	} {
		err := (&Brokers{}).Explain(tc.err, `topic "t"`)
		if command.ExitCode(err) != tc.code || err.Error() != tc.text || !errors.Is(err, tc.err) {
			t.Errorf("%v: exit code %d, %q, want %d, %q", tc.err, command.ExitCode(err), err, tc.code, tc.text)
		}
	}
}
