package broker_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/broker"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	r := start(t, broker.Options{Metrics: registry})
	ctx := within(t)
	if err := r.client(t).ProduceSync(ctx, records("notes", 25)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	poll(t, ctx, r.client(t, kgo.ConsumeTopics("notes"), kgo.ConsumerGroup("readers")), 25)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	appended := 0.0
	for _, f := range families {
		names = append(names, f.GetName())
		for _, m := range f.GetMetric() {
			if f.GetName() == "millstream_log_appended_records_total" && m.GetLabel()[0].GetValue() == "notes" {
				appended = m.GetCounter().GetValue()
			}
		}
	}
	want := strings.Fields(`millstream_connections millstream_group_lag_records millstream_group_members millstream_groups millstream_log_appended_bytes_total millstream_log_appended_records_total millstream_log_free_bytes millstream_log_read_bytes_total
		millstream_log_size_bytes millstream_log_stable_lag_records millstream_partitions millstream_request_bytes_total millstream_request_seconds
		millstream_transaction_oldest_open_seconds millstream_transaction_timeouts_total millstream_transactions_open millstream_transactions_total`)
	if !slices.Equal(names, want) {
		t.Errorf("metrics are %v, want %v", names, want)
	}
	if appended != 25 {
		t.Errorf("%v records appended, want 25", appended)
	}
	r.stop(t)
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after the stop there are %d metrics, %v", len(families), err)
	}
}

// However many topics there are, the number of series is bounded and nothing is left out of the sums.
func TestMetricsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := start(t, broker.Options{Metrics: registry})
	for i := range 230 {
		if _, err := r.Topics().Create(t.Context(), fmt.Sprintf("t%03d", i), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, info := range r.Topics().List() {
		total += info.Partitions
	}
	for _, f := range families {
		if f.GetName() != "millstream_partitions" {
			continue
		}
		sum := 0.0
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue()
		}
		if n := len(f.GetMetric()); n > 201 || int(sum) != total {
			t.Errorf("%d series with %v partitions, want at most 201 with %d", n, sum, total)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	for address, ok := range map[string]bool{"broker.example:9092": true, "[::1]:9092": true, "broker.example": false, ":9092": false, "h:0": false, "h:70000": false} {
		b, err := broker.Open(t.Context(), broker.Options{Dir: t.TempDir(), AdvertisedAddress: address})
		if (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// A client is told the address that it can reach: the one it has connected to.
func TestSeveralListeners(t *testing.T) {
	r := start(t, broker.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	second := &running{Broker: r.Broker, address: l.Addr().String()}
	for _, one := range []*running{r, second} {
		m, err := one.admin(t).BrokerMetadata(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := net.JoinHostPort(m.Brokers[0].Host, fmt.Sprint(m.Brokers[0].Port)); got != one.address {
			t.Errorf("told %s to a client of %s", got, one.address)
		}
	}
	r.stop(t)
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// An open transaction is seen by what it holds back, and no more once it has ended.
func TestTransactionMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	r := start(t, broker.Options{Metrics: registry})
	ctx := within(t)
	cl := r.client(t, kgo.TransactionalID("writer"))
	values := func() (lag, open, ended float64) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				switch f.GetName() {
				case "millstream_log_stable_lag_records":
					lag = max(lag, m.GetGauge().GetValue())
				case "millstream_transactions_open":
					open = m.GetGauge().GetValue()
				case "millstream_transactions_total":
					ended += m.GetCounter().GetValue()
				}
			}
		}
		return lag, open, ended
	}
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, records("notes", 25)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if lag, open, ended := values(); lag != 25 || open != 1 || ended != 0 {
		t.Errorf("open transaction: lag %v, open %v, ended %v", lag, open, ended)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if lag, open, ended := values(); lag != 0 || open != 0 || ended != 1 {
		t.Errorf("committed: lag %v, open %v, ended %v", lag, open, ended)
	}
}
