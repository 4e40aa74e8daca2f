package runtime

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetricsOfPartitions: only those this process works on have series of their own; the lag of the deployment is that of all.
func TestMetricsOfPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.ok(b.log.EnsureTopic(t.Context(), "in", 2, nil))
		b.deploy("up", "in", "out")
		b.log.AppendTo("in", 0, "one")
		synctest.Wait()
		b.log.AppendTo("in", 0, "two", "three")
		synctest.Wait()
		want := func(what string, lines ...string) {
			t.Helper()
			var text strings.Builder
			for _, line := range lines {
				text.WriteString(line + "\n")
			}
			if err := testutil.GatherAndCompare(b.registry, strings.NewReader(text.String()), what); err != nil {
				t.Error(err)
			}
		}
		want("millstream_deployment_partition_records_in_total",
			"# HELP millstream_deployment_partition_records_in_total Input records committed since this process has the partition.",
			"# TYPE millstream_deployment_partition_records_in_total counter",
			`millstream_deployment_partition_records_in_total{deployment="up",partition="0",topic="in"} 3`,
			`millstream_deployment_partition_records_in_total{deployment="up",partition="1",topic="in"} 0`)
		want("millstream_deployment_transactions_total",
			"# HELP millstream_deployment_transactions_total Transactions ended; what was in an aborted one is read again.",
			"# TYPE millstream_deployment_transactions_total counter",
			`millstream_deployment_transactions_total{deployment="up",outcome="aborted"} 0`,
			`millstream_deployment_transactions_total{deployment="up",outcome="committed"} 2`)
		_, err := b.runtime.Pause(t.Context(), "up")
		b.ok(err)
		b.log.AppendTo("in", 0, "four")
		want("millstream_deployment_partition_lag_records")
		want("millstream_deployment_lag_records",
			"# HELP millstream_deployment_lag_records Offsets between the committed ones and the ends of all its partitions, whoever works on them.",
			"# TYPE millstream_deployment_lag_records gauge",
			`millstream_deployment_lag_records{deployment="up"} 1`)
		b.close()
	})
}
