// Package wire carries Kafka requests and responses over connections: accept,
// frames, headers, order, limits, shutdown. It does not know what a request
// means; that is the Handler's.
//
// Each connection has one goroutine and one request in flight, and its
// responses come in the order of the requests. Nothing that one client does,
// or leaves undone, holds up another: idle, silent and slow ones are bounded
// by timeouts. A frame's size is checked before memory is taken for it, and
// memory is taken only as its bytes arrive.
//
// Buffers belong to the connection: a request's body and the buffer its
// response is built in are used again once the response is written.
package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// ErrServerClosed is returned by Serve once Close has been called.
var ErrServerClosed = errors.New("server is closed")

// ErrClientGone is the cause of a context of Watch that has ended because nobody waits for the answer.
var ErrClientGone = errors.New("client closed the connection")

// Verdict says what is done with a request, by its key and version.
type Verdict int

// The verdicts.
const (
	// Refuse closes the connection.
	Refuse Verdict = iota
	// Answer hands the request to the session.
	Answer
	// AnswerUnread hands the request to the session without its body, which
	// has a form that is not known (an ApiVersions request of the future).
	AnswerUnread
)

// Handler answers requests.
type Handler interface {
	// Accept decides on a request before its body is looked at.
	Accept(key, version int16) Verdict
	// Connect begins the session of a connection. The session may call watch
	// while it serves a request.
	Connect(remote, local net.Addr, watch Watch) Session
}

// Watch is for requests that wait for something to happen: it returns a
// context that also ends, with ErrClientGone, when the client closes or loses
// its connection, until stop is called. Stop must be called before the request
// is answered.
type Watch func(context.Context) (ctx context.Context, stop func())

// Session is one connection of a Handler. It is used by one goroutine.
type Session interface {
	// Serve answers one request: it appends the response's body to dst, whose
	// content before is not its own. Neither r.Body nor dst may be kept.
	// respond is false if the client expects no response. An error closes the
	// connection.
	Serve(ctx context.Context, r Request, dst []byte) (out []byte, respond bool, err error)
	Close()
}

// Request is one request as it came in.
type Request struct {
	Key, Version int16
	ClientID     string
	Body         []byte // nil with AnswerUnread
}

// Exchange is what Options.Observe is told about an answered request.
type Exchange struct {
	Key                         int16
	Duration                    time.Duration // from the last byte of the request to the last of the response
	RequestBytes, ResponseBytes int
}

// Options are the limits of a server. Zero values mean the defaults.
type Options struct {
	Handler  Handler
	Logger   *slog.Logger
	Observe  func(Exchange)  // called for every answered request; nil: not called
	Accepted func(delta int) // called with +1 and -1 as connections come and go; nil: not called

	MaxConnections           int           // default 10,000
	MaxConnectionsPerAddress int           // default 1,000
	MaxFrameBytes            int           // of a Produce request; default 100 MiB
	MaxControlFrameBytes     int           // of any other request; default 4 MiB
	IdleTimeout              time.Duration // without a request; default 10 min
	ProgressTimeout          time.Duration // for each MiB of a request or a response; default 30 s
}

func (o *Options) setDefaults() {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.MaxConnections, 10_000)
	set(&o.MaxConnectionsPerAddress, 1_000)
	set(&o.MaxFrameBytes, 100<<20)
	set(&o.MaxControlFrameBytes, min(4<<20, o.MaxFrameBytes))
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 10 * time.Minute
	}
	if o.ProgressTimeout <= 0 {
		o.ProgressTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server serves any number of listeners.
type Server struct {
	o       Options
	headers headerTable
	guard   func(key, version int16, body []byte) error
	buffers bufferPool
	ctx     context.Context // of all requests; ends when Close gives up waiting
	cancel  context.CancelFunc

	mu          sync.Mutex
	closed      bool
	listeners   map[net.Listener]struct{}
	conns       map[*conn]struct{}
	connsByHost map[string]int
	running     sync.WaitGroup // one for each connection
}

// NewServer returns a server that serves nothing yet.
func NewServer(o Options) *Server {
	o.setDefaults()
	s := &Server{o: o, headers: newHeaderTable(), guard: guard, listeners: make(map[net.Listener]struct{}),
		conns: make(map[*conn]struct{}), connsByHost: make(map[string]int)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections on l until Close, then returns ErrServerClosed. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			s.start(nc)
			continue
		}
		if s.isClosed() {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, most often: it passes when connections end.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.o.Logger.Warn("connection was not accepted", "error", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return ErrServerClosed
		}
	}
}

// start serves nc in its own goroutine, unless there are too many connections.
func (s *Server) start(nc net.Conn) {
	host := hostOf(nc.RemoteAddr())
	c := newConn(s, nc, host)
	if err := s.admit(c); err != nil {
		s.o.Logger.Warn("connection refused", "remote", nc.RemoteAddr().String(), "reason", err)
		nc.Close()
		return
	}
	go func() {
		defer s.leave(c)
		c.serve(s.ctx)
	}()
}

func (s *Server) admit(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrServerClosed
	case len(s.conns) >= s.o.MaxConnections:
		return fmt.Errorf("%d connections are open, no more are allowed", len(s.conns))
	case s.connsByHost[c.host] >= s.o.MaxConnectionsPerAddress:
		return fmt.Errorf("%d connections from %s are open, no more are allowed", s.connsByHost[c.host], c.host)
	}
	s.conns[c] = struct{}{}
	s.connsByHost[c.host]++
	s.running.Add(1)
	if s.o.Accepted != nil {
		s.o.Accepted(+1)
	}
	return nil
}

func (s *Server) leave(c *conn) {
	c.nc.Close()
	s.mu.Lock()
	delete(s.conns, c)
	if s.connsByHost[c.host]--; s.connsByHost[c.host] == 0 {
		delete(s.connsByHost, c.host)
	}
	s.mu.Unlock()
	if s.o.Accepted != nil {
		s.o.Accepted(-1)
	}
	s.running.Done()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close stops accepting, lets the requests in flight be answered until ctx
// ends, then cuts what is left. It returns when no connection is left.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.interrupt()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("connections were cut with requests in flight: %w", context.Cause(ctx))
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.nc.Close()
	}
	s.mu.Unlock()
	<-done
	return err
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
