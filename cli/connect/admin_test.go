package connect

import (
	"errors"
	"net/http"
	"testing"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/runtime/admin"
)

func TestProblemsHaveTheirExitCodeAndFix(t *testing.T) {
	for _, c := range []struct {
		kind   string
		detail string
		status int
		code   int
		fix    bool
	}{
		{"invalid", "", http.StatusBadRequest, command.CodeUsage, false},
		{"missing-topics", "", http.StatusConflict, command.CodeNotFound, false},
		{"exists", "", http.StatusConflict, command.CodeConflict, false},
		{"group-active", "", http.StatusConflict, command.CodeConflict, false},
		{"module-stopped", "", http.StatusUnprocessableEntity, command.CodeFailed, true},
		{"storage", "append to a.log: no space left on device", http.StatusServiceUnavailable, command.CodeFailed, true}, // a full disk is not an absent server
		{"storage", "write to a-0: KAFKA_STORAGE_ERROR", http.StatusServiceUnavailable, command.CodeFailed, true},
		{"storage", "INVALID_TRANSACTION_TIMEOUT", http.StatusServiceUnavailable, command.CodeFailed, false}, // and a cluster that does not want to has no full disk
		{"closing", "", http.StatusServiceUnavailable, command.CodeUnreachable, false},
	} {
		err := (&AdminClient{}).Explain(&admin.Problem{Type: "urn:millstream:" + c.kind, Status: c.status, Detail: c.detail})
		var e *command.Error
		if !errors.As(err, &e) || e.Code != c.code || (e.Fix != "") != c.fix {
			t.Errorf("%s: got %#v, want code %d", c.kind, e, c.code)
		}
	}
}
