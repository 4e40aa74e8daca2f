package connect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/millstream-io/millstream/runtime/admin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/urfave/cli/v2"
)

// Admin is the base URL of an admin API from --admin or MILLSTREAM_ADMIN.
type Admin struct {
	URL string
}

// Flag is --admin.
func (a *Admin) Flag() cli.Flag {
	return &cli.StringFlag{
		Name: "admin", Usage: "`URL` of the admin API",
		Value: DefaultAdmin, EnvVars: []string{"MILLSTREAM_ADMIN"}, Destination: &a.URL,
	}
}

// Open makes a client; the first call tells whether somebody answers. Connections are not kept when Close is called.
func (a *Admin) Open() (*AdminClient, error) {
	base := a.URL
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, command.Usagef("--admin: %q is not a URL", a.URL).WithFix("write for example --admin %s", DefaultAdmin)
	}
	if u.Hostname() == "" {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
		base = u.String()
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	c, err := admin.NewClient(base, &http.Client{Transport: transport})
	if err != nil {
		return nil, command.Usagef("--admin %s: %w", a.URL, err)
	}
	return &AdminClient{Client: c, transport: transport, url: base}, nil
}

// AdminClient is an admin.Client with its connections and its address for messages.
type AdminClient struct {
	*admin.Client
	transport *http.Transport
	url       string
}

// Close drops idle connections.
func (c *AdminClient) Close() { c.transport.CloseIdleConnections() }

// Explain gives an error of the client its exit code.
func (c *AdminClient) Explain(err error) error {
	var problem *admin.Problem
	var known *command.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &problem):
		return &command.Error{Code: problemCode(problem), Err: err, Fix: problemFix(problem)}
	case errors.Is(err, admin.ErrUnreachable), network(err):
		return c.unreachable(err)
	}
	return err
}

// unreachable tells an address where nobody listens from one where somebody does that is no admin API.
func (c *AdminClient) unreachable(err error) error {
	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err
	}
	op, ok := errors.AsType[*net.OpError](err)
	if ok {
		err = op
	}
	if !ok || op.Op != "dial" {
		return &command.Error{
			Code: command.CodeUnreachable,
			Err:  fmt.Errorf("%s does not answer as an admin API does: %w", c.url, err),
			Fix:  "is it the port for Kafka clients? The admin API has its own: --admin URL, or MILLSTREAM_ADMIN (default " + DefaultAdmin + ")",
		}
	}
	return &command.Error{
		Code: command.CodeUnreachable,
		Err:  fmt.Errorf("no server answers at %s: %w", c.url, err),
		Fix:  "start one with: millstream server\nor name another: --admin URL, or MILLSTREAM_ADMIN",
	}
}

// problemFix is the way out of problems that do not name it themselves.
func problemFix(p *admin.Problem) string {
	switch {
	case strings.HasSuffix(p.Type, ":module-stopped"):
		return "it fails before its first record, in _initialize or its setup; what it printed: millstream logs NAME\n" +
			"if it only needs more room: --memory SIZE, --wall-time DURATION (ten times that for the setup)"
	case strings.HasSuffix(p.Type, ":storage") && full(p.Detail):
		return "free space on the server's disk and try again; the server goes on by itself"
	}
	return ""
}

// full: that a disk is, our own broker says in words and others by a code.
func full(detail string) bool {
	return strings.Contains(detail, "no space left") || strings.Contains(detail, kerr.KafkaStorageError.Message)
}

func problemCode(p *admin.Problem) int {
	switch {
	case strings.HasSuffix(p.Type, ":missing-topics"):
		return command.CodeNotFound
	case strings.HasSuffix(p.Type, ":storage"):
		return command.CodeFailed // the server answers, it is its disk that does not
	}
	switch p.Status {
	case http.StatusBadRequest:
		return command.CodeUsage
	case http.StatusNotFound:
		return command.CodeNotFound
	case http.StatusConflict:
		return command.CodeConflict
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return command.CodeUnreachable
	}
	return command.CodeFailed
}

// network reports whether an error means that nobody answered.
func network(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded)
}
