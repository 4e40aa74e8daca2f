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
		status int
		code   int
		fix    bool
	}{
		{"invalid", http.StatusBadRequest, command.CodeUsage, false},
		{"missing-topics", http.StatusConflict, command.CodeNotFound, false},
		{"exists", http.StatusConflict, command.CodeConflict, false},
		{"group-active", http.StatusConflict, command.CodeConflict, false},
		{"module-stopped", http.StatusUnprocessableEntity, command.CodeFailed, true},
		{"storage", http.StatusServiceUnavailable, command.CodeFailed, true}, // a full disk is not an absent server
		{"closing", http.StatusServiceUnavailable, command.CodeUnreachable, false},
	} {
		err := (&AdminClient{}).Explain(&admin.Problem{Type: "urn:millstream:" + c.kind, Status: c.status, Detail: "why"})
		var e *command.Error
		if !errors.As(err, &e) || e.Code != c.code || (e.Fix != "") != c.fix {
			t.Errorf("%s: got %#v, want code %d", c.kind, e, c.code)
		}
	}
}
