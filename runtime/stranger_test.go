package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/runtime/deploy"
	"github.com/millstream-io/millstream/runtime/engine"
)

// TestAGroupThatAStrangerUses: its name is refused with the way out, before anything is made, and also when the stranger
// comes in the last moment; it stays a member.
func TestAGroupThatAStrangerUses(t *testing.T) {
	for name, late := range map[string]bool{"before": false, "meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.ok(b.log.EnsureTopic(t.Context(), "in", 1, nil))
				s := b.version("1")
				var stranger engine.Member
				join := func() {
					m, err := b.log.Join(t.Context(), engine.Group{Name: "d", Client: "reports-7", Inputs: []string{"in"}})
					b.ok(err)
					stranger = m
				}
				if late {
					compilations := 0
					b.onCompile(func(string) error {
						if compilations++; compilations == 2 { // the proof, behind all checks
							join()
						}
						return nil
					})
				} else {
					join()
				}
				_, err := b.runtime.Deploy(t.Context(), s, DeployOptions{CreateTopics: true})
				if !errors.Is(err, engine.ErrGroupActive) || !strings.Contains(err.Error(), "`millstream group describe d`") {
					t.Errorf("error is %v", err)
				}
				if !late && !strings.Contains(err.Error(), `"reports-7"`) {
					t.Errorf("error is %v, want the member's name", err)
				}
				if n := b.log.MemberCount("d"); n != 1 {
					t.Errorf("the group has %d members", n)
				}
				if _, err := b.runtime.Status(t.Context(), "d"); !errors.Is(err, deploy.ErrNotFound) {
					t.Errorf("status: %v", err)
				}
				if topics, err := b.log.Topics(t.Context(), []string{"out"}); !late && (err != nil || len(topics) != 0) {
					t.Errorf("topics %v were made, %v", topics, err)
				}
				b.ok(stranger.Leave(context.Background()))
				b.ok(b.log.ForgetGroup(t.Context(), "d")) // what the stranger committed is its own matter
				b.onCompile(nil)
				b.mustDeploy(s)
				b.close()
			})
		})
	}
}
