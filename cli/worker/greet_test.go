package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/cli/connect"
	"github.com/millstream-io/millstream/cli/serve"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cutting accepts connections before a broker and closes the first ones when something is asked on them.
func cutting(t *testing.T, first int64) (address string, asked *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, behind := brokertest.Serve(t, broker.Options{AdvertisedAddress: l.Addr().String()})
	asked = &atomic.Int64{}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				question := make([]byte, 4<<10)
				n, err := c.Read(question)
				if err != nil || asked.Add(1) <= first {
					return
				}
				b, err := net.Dial("tcp", behind)
				if err != nil {
					return
				}
				defer b.Close()
				go func() { _, _ = io.Copy(c, b); c.Close() }()
				if _, err := b.Write(question[:n]); err == nil {
					_, _ = io.Copy(b, c)
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-accepting })
	return l.Addr().String(), asked
}

// TestGreetARestartingBroker: connections that are cut at the start are made again.
func TestGreetARestartingBroker(t *testing.T) {
	const cuts = 3
	address, asked := cutting(t, cuts)
	p := &Process{Process: serve.New()}
	brokers, err := p.greet(t.Context(), &Options{Brokers: connect.Brokers{Addresses: address}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil || len(brokers) != 1 || brokers[0] != address || p.ClusterID == "" {
		t.Errorf("got %v, %v", brokers, err)
	}
	if n := asked.Load(); n <= cuts {
		t.Errorf("%d connections were made, %d were cut", n, cuts)
	}
}

// TestPatienceEnds: what stays so is told, with the hint; what is no cut connection at once.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		logger := slog.New(slog.NewTextHandler(&log, nil))
		began, asked := time.Now(), 0
		_, err := patient(t.Context(), logger, func(context.Context) (int, error) { asked++; return 0, &kgo.ErrFirstReadEOF{} })
		if took := time.Since(began); took < greetTime || took > greetTime+time.Second || asked < 3 {
			t.Errorf("asked %d times in %v", asked, took)
		}
		o := Options{Brokers: connect.Brokers{Addresses: "k:9092"}}
		if e, ok := errors.AsType[*command.Error](o.explain(err, 0)); !ok || !strings.Contains(e.Fix, "--tls") {
			t.Errorf("error is %v", err)
		}
		if strings.Count(log.String(), "trying again") != 1 {
			t.Errorf("log is %q", log.String())
		}

		began, asked = time.Now(), 0
		refused := errors.New("not like this")
		if _, err := patient(t.Context(), logger, func(context.Context) (int, error) { asked++; return 0, refused }); !errors.Is(err, refused) || asked != 1 || time.Since(began) > 0 {
			t.Errorf("asked %d times, %v", asked, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := patient(ctx, logger, func(context.Context) (int, error) { return 0, io.EOF }); !errors.Is(err, io.EOF) || time.Since(began) > 2*time.Second {
			t.Errorf("error is %v", err)
		}
	})
}
