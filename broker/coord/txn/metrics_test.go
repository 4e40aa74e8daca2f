package txn

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), Options{})
		collector := NewCollector(w.c)
		expect := func(open, oldest, commits, aborts, timeouts string) {
			t.Helper()
			want := `
# HELP millstream_transaction_oldest_open_seconds Age of the oldest of them; 0 if there is none.
# TYPE millstream_transaction_oldest_open_seconds gauge
millstream_transaction_oldest_open_seconds ` + oldest + `
# HELP millstream_transaction_timeouts_total Transactions aborted since the start because their producers did not end them in time.
# TYPE millstream_transaction_timeouts_total counter
millstream_transaction_timeouts_total ` + timeouts + `
# HELP millstream_transactions_open Transactions that are open or being ended.
# TYPE millstream_transactions_open gauge
millstream_transactions_open ` + open + `
# HELP millstream_transactions_total Transactions ended since the start.
# TYPE millstream_transactions_total counter
millstream_transactions_total{outcome="abort"} ` + aborts + `
millstream_transactions_total{outcome="commit"} ` + commits + "\n"
			if err := testutil.CollectAndCompare(collector, strings.NewReader(want)); err != nil {
				t.Error(err)
			}
		}
		expect("0", "0", "0", "0", "0")
		p := w.init(NoProducer)
		must(t, w.do(p, V2, 0, 1))
		time.Sleep(7 * time.Second)
		expect("1", "7", "0", "0", "0")
		p, err := w.c.End(t.Context(), id, p, true, V2)
		must(t, err)
		expect("0", "0", "1", "0", "0")
		must(t, w.do(p, V2, 0, 1))
		p, err = w.c.End(t.Context(), id, p, false, V2)
		must(t, err)
		must(t, w.do(p, V2, 0, 1))
		time.Sleep(time.Hour)
		synctest.Wait()
		expect("0", "0", "1", "2", "1")
		must(t, w.close())
	})
}
