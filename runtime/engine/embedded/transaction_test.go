package embedded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/record"
	"github.com/millstream-io/millstream/broker/topic"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/millstream-io/millstream/runtime/engine"
)

// A session is shown no record of a transaction that is open or was aborted.
func TestSessionReadsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		l, s, m := oneSession(t, vfs.NewMem(), engine.ExactlyOnce)
		defer l.close(t)
		defer m.Leave(ctx)
		p, err := l.topics.Partition("in", 0)
		if err != nil {
			t.Fatal(err)
		}
		write := func(producer int64, value string) {
			var b record.Builder
			b.Reset(nil, record.None)
			b.Append(time.Now().UnixMilli(), nil, []byte(value), nil, 0)
			b.SetProducer(producer, 0, 0, producer >= 0)
			from := topic.FromTransaction
			if producer < 0 {
				from = topic.FromClient
			}
			if _, err := p.Append(ctx, b.Finish(), from); err != nil {
				t.Fatal(err)
			}
		}
		end := func(producer int64, commit bool) {
			if _, err := p.Append(ctx, record.AppendMarker(nil, producer, 0, record.Marker{Commit: commit}, 0), topic.FromBroker); err != nil {
				t.Fatal(err)
			}
		}
		write(-1, "plain")
		write(1, "aborted")
		write(2, "committed")
		write(-1, "behind")
		seen := func() (values []string) {
			for {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				f, err := s.Poll(ctx, 1<<20)
				cancel()
				if errors.Is(err, context.DeadlineExceeded) {
					return values
				}
				if err != nil {
					t.Fatal(err)
				}
				for i := range f.Len() {
					values = append(values, string(f.Record(i).Value))
				}
			}
		}
		for _, c := range []struct {
			do   func()
			want []string
		}{
			{func() {}, []string{"plain"}},
			{func() { end(2, true) }, nil},
			{func() { end(1, false) }, []string{"committed", "behind"}},
		} {
			c.do()
			if got := seen(); len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
				t.Errorf("seen %q, want %q", got, c.want)
			}
		}
	})
}
