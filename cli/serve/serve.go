// Package serve is what the commands have in common that run until they are
// stopped: addresses to listen on, the log, the order in which things are closed, readiness.
//
// A Process is made and closed by one goroutine; Ready and Failed may be used by any.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// CloseTimeout bounds an orderly stop. What is not finished then is recovered at the next start.
const CloseTimeout = 20 * time.Second

// What others decide on gets a share of it, so that it does not take the time that the log needs.
const (
	// RequestsTimeout is for requests that are being answered.
	RequestsTimeout = 4 * time.Second
	// DrainTimeout is for guests, to finish what is in hand: one may never end. It is shorter in the process of a single
	// deployment, for which its parent waits no longer than DrainTimeout.
	DrainTimeout      = 10 * time.Second
	ChildDrainTimeout = 8 * time.Second
)

// Within bounds a close.
func Within(limit time.Duration, f func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return f(ctx)
	}
}

// Process is what a command has started so far.
type Process struct {
	failed chan error // a listener that ended by itself
	ready  atomic.Bool
	// closers run in reverse order.
	closers []closer
}

type closer struct {
	what  string
	close func(context.Context) error
}

// New makes a process without anything.
func New() *Process { return &Process{failed: make(chan error, 4)} }

// Listen takes an address; flag is the one that names it, for messages.
func (p *Process) Listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, explainListen(flag, address, err)
	}
	p.Closes(address, func(context.Context) error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

// Closes adds what Close is to do, before all that was added earlier.
func (p *Process) Closes(what string, f func(context.Context) error) {
	p.closers = append(p.closers, closer{what, f})
}

// Serve runs serve in the background. That it ends by itself is told by Failed.
func (p *Process) Serve(what string, serve func() error) {
	go func() {
		err := serve()
		if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			p.Fail(fmt.Errorf("serving %s: %w", what, err))
		}
	}()
}

// Fail ends the process for a reason that nobody asked for. Only the first ones are told.
func (p *Process) Fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// Failed gives the reason when the process cannot go on.
func (p *Process) Failed() <-chan error { return p.failed }

// SetReady says that everything serves.
func (p *Process) SetReady() { p.ready.Store(true) }

// Readiness is an error while the process starts or stops.
func (p *Process) Readiness() error {
	if !p.ready.Load() {
		return errors.New("starting or stopping")
	}
	return nil
}

// Close stops serving, finishes what is in flight and makes it durable.
func (p *Process) Close() error {
	p.ready.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), CloseTimeout)
	defer cancel()
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i].close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.closers[i].what, err))
		}
	}
	p.closers = nil
	return errors.Join(errs...)
}

// Metrics answers scrapes.
func Metrics(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true})
}

// CheckAddress refuses what is no HOST:PORT, and to serve strangers by accident.
func CheckAddress(flag, address string, insecure bool) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return command.Usagef("--%s %q is not HOST:PORT", flag, address).WithFix("write for example --%s 127.0.0.1:0, which picks a free port", flag)
	}
	if !insecure && !loopback(host) {
		return command.Usagef("--%s %s can be reached from other machines, and nobody is asked for a password", flag, address).
			WithFix("listen on 127.0.0.1, or add --insecure if the network is yours alone")
	}
	return nil
}

// explainListen says what is wrong with an address.
func explainListen(flag, address string, err error) error {
	e := command.Failedf("--%s %s: %w", flag, address, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e = command.Conflictf("--%s %s is taken by another process: %w", flag, address, err).
			WithFix("perhaps a server runs already: millstream list\nor take another address: --%s 127.0.0.1:0 picks a free port", flag)
	case errors.Is(err, syscall.EACCES):
		e = e.WithFix("ports below 1024 need privileges; take a higher one")
	}
	return e
}
