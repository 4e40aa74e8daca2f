package connect

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/cli/command"
)

// A port that speaks HTTP is most likely that of an admin API.
func TestWhatIsThereInsteadOfABroker(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for address, isHTTP := range map[string]bool{web.Listener.Addr().String(): true, closing.Addr().String(): false, "127.0.0.1:1": false} {
		b := &Brokers{Addresses: address}
		err := b.Explain(&net.OpError{Op: "read", Err: net.ErrClosed}, "topics")
		e, ok := err.(*command.Error)
		if !ok || e.Code != command.CodeUnreachable {
			t.Fatalf("%s: %v", address, err)
		}
		if strings.Contains(e.Error(), "speaks HTTP") != isHTTP || strings.Contains(e.Fix, "admin API") != isHTTP {
			t.Errorf("%s: %v\n%s", address, e, e.Fix)
		}
	}
}

func TestAnInterruptIsNoAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := (&Brokers{Addresses: "127.0.0.1:1"}).Open(ctx)
	if command.ExitCode(err) != command.CodeInterrupted {
		t.Errorf("exit code %d, %v", command.ExitCode(err), err)
	}
}

func TestAdminAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"127.0.0.1:9644": "http://127.0.0.1:9644", ":9644": "http://127.0.0.1:9644", "https://mill.example": "https://mill.example", "http://:1/": "http://127.0.0.1:1/",
	} {
		c, err := (&Admin{URL: given}).Open()
		if err != nil || c.url != want {
			t.Errorf("%q: %v, %v; want %q", given, c, err, want)
		}
	}
	for _, given := range []string{"", "ftp://x", "http://"} {
		if _, err := (&Admin{URL: given}).Open(); command.ExitCode(err) != command.CodeUsage {
			t.Errorf("%q: %v", given, err)
		}
	}
}
