package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every request with its body. The client id tells it to do otherwise.
type echo struct {
	sessions atomic.Int32
	waiting  chan struct{}         // one value for each request that waits
	release  chan struct{}         // closed: whoever waits goes on
	waits    func(context.Context) // how the client "watch" waits
}

func (e *echo) Accept(key, version int16) Verdict {
	switch {
	case key == keyApiVersions && version > 4:
		return AnswerUnread
	case version > 9:
		return Refuse
	}
	return Answer
}

func (e *echo) Connect(_, _ net.Addr, watch Watch) Session {
	e.sessions.Add(1)
	return &echoSession{e, watch}
}

type echoSession struct {
	*echo
	watch Watch
}

func (s *echoSession) Close() { s.sessions.Add(-1) }

func (s *echoSession) Serve(ctx context.Context, r Request, dst []byte) ([]byte, bool, error) {
	switch r.ClientID {
	case "silent":
		return dst, false, nil
	case "broken":
		return dst, true, errors.New("this session is over")
	case "panic":
		panic("a bug")
	case "watch":
		ctx, stop := s.watch(ctx)
		s.waiting <- struct{}{}
		s.waits(ctx)
		stop()
	case "wait":
		s.waiting <- struct{}{}
		select {
		case <-s.release:
		case <-ctx.Done():
			return dst, false, ctx.Err()
		}
	}
	return append(dst, r.Body...), true, nil
}

// served is a server on a port of the loopback interface.
type served struct {
	*Server
	handler *echo
	address string
	done    chan error
}

func serve(t *testing.T, o Options) *served {
	t.Helper()
	h := &echo{waiting: make(chan struct{}, 8), release: make(chan struct{})}
	o.Handler = h
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l := listen(t)
	s := &served{Server: NewServer(o), handler: h, address: l.Addr().String(), done: make(chan error, 1)}
	s.guard = func(_, _ int16, _ []byte) error { return nil } // the bodies here are of no request
	go func() { s.done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_ = s.Close(ctx)
		if err := <-s.done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		if n := h.sessions.Load(); n != 0 {
			t.Errorf("%d sessions were not closed", n)
		}
	})
	return s
}

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// request builds a frame of a request with a header of version 1.
func request(key, version int16, correlation int32, client string, body []byte) []byte {
	b := kbin.AppendInt16(make([]byte, 4), key)
	b = kbin.AppendInt16(b, version)
	b = kbin.AppendInt32(b, correlation)
	b = kbin.AppendString(b, client)
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) (correlation int32, body []byte) {
	t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return int32(binary.BigEndian.Uint32(head[4:])), body
}

// closed waits until the server closes the connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := io.Copy(io.Discard, c)
	if n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came, then %v; want a closed connection", n, err)
	}
}

// Frames of all sizes come back in order, also if they are sent at once and some have no answer.
func TestOrderAndSizes(t *testing.T) {
	s := serve(t, Options{})
	c := s.dial(t)
	sizes := []int{0, 1, 100, smallBufferBytes - 10, smallBufferBytes, 60_000, chunkBytes - 7, chunkBytes, 3 << 20, 5, 2 << 20, 0}
	pattern := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	go func() {
		var all []byte
		for i, n := range sizes {
			all = append(all, request(keyProduce, 3, int32(i), "c", pattern[i:i+n])...)
			all = append(all, request(keyProduce, 3, 99, "silent", pattern[:n])...)
		}
		_, _ = c.Write(all)
	}()
	for i, n := range sizes {
		id, body := receive(t, c)
		if id != int32(i) || !bytes.Equal(body, pattern[i:i+n]) {
			t.Fatalf("answer %d has correlation id %d and %d bytes, want %d", i, id, len(body), n)
		}
	}
}

func TestLimitsOfFrames(t *testing.T) {
	s := serve(t, Options{MaxFrameBytes: 1 << 20, MaxControlFrameBytes: 1 << 10})
	for name, c := range map[string]struct {
		sent []byte
		ok   bool
	}{
		"produce within":      {request(keyProduce, 3, 1, "", make([]byte, 1<<19)), true},
		"produce beyond":      {request(keyProduce, 3, 1, "", make([]byte, 1<<20))[:100], false},
		"metadata within":     {request(3, 1, 1, "", make([]byte, 900)), true},
		"metadata beyond":     {request(3, 1, 1, "", make([]byte, 1100))[:100], false},
		"shorter than header": {[]byte{0, 0, 0, 9, 0, 3, 0, 1, 0, 0, 0, 1, 0}, false},
		"negative":            {[]byte{0x80, 0, 0, 0, 0, 3}, false},
		"refused version":     {request(3, 10, 1, "", nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dial(t)
			send(t, conn, c.sent)
			if !c.ok {
				closed(t, conn)
				return
			}
			receive(t, conn)
		})
	}
}

func TestHandlerEndsConnection(t *testing.T) {
	s := serve(t, Options{})
	for _, client := range []string{"broken", "panic"} {
		c := s.dial(t)
		send(t, c, request(3, 1, 1, client, nil))
		closed(t, c)
	}
	c := s.dial(t)
	send(t, c, request(3, 1, 4, "c", []byte("still there")))
	if id, body := receive(t, c); id != 4 || string(body) != "still there" {
		t.Errorf("%d %q", id, body)
	}
}

func TestHeaders(t *testing.T) {
	s := serve(t, Options{})
	c := s.dial(t)
	for _, step := range []struct {
		what         string
		key, version int16
		sent, want   []byte
	}{
		{"not flexible", 3, 8, []byte("x"), []byte("x")},
		{"flexible: tags on both ways", 3, 9, []byte("\x00x"), []byte("\x00x")},
		{"a tag in the header", 3, 9, []byte("\x01\x05\x02abx"), []byte("\x00x")},
		{"ApiVersions answers without tags", keyApiVersions, 3, []byte("\x00x"), []byte("x")},
		{"ApiVersions of the future is not read", keyApiVersions, 70, []byte("whatever"), nil},
	} {
		send(t, c, request(step.key, step.version, 1, "c", step.sent))
		if _, body := receive(t, c); !bytes.Equal(body, step.want) {
			t.Errorf("%s: %q, want %q", step.what, body, step.want)
		}
	}
}

func TestLimitsOfConnections(t *testing.T) {
	total := serve(t, Options{MaxConnections: 2})
	each := serve(t, Options{MaxConnectionsPerAddress: 2})
	for _, s := range []*served{total, each} {
		var open []net.Conn
		for range 2 {
			c := s.dial(t)
			send(t, c, request(3, 1, 1, "c", nil))
			receive(t, c)
			open = append(open, c)
		}
		closed(t, s.dial(t))
		open[0].Close()
		// The place is free once the server has noticed.
		for {
			c := s.dial(t)
			if _, err := c.Write(request(3, 1, 1, "c", nil)); err == nil {
				if _, err := io.ReadFull(c, make([]byte, 8)); err == nil {
					break
				}
			}
		}
	}
}

func TestTimeouts(t *testing.T) {
	s := serve(t, Options{IdleTimeout: 50 * time.Millisecond, ProgressTimeout: 50 * time.Millisecond})
	idle, slow, deaf := s.dial(t), s.dial(t), s.dial(t)
	send(t, slow, request(keyProduce, 3, 1, "c", make([]byte, 1<<20))[:1000])
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for { // asks and never reads
			if _, err := deaf.Write(request(keyProduce, 3, 1, "c", make([]byte, 1<<20))); err != nil {
				return
			}
		}
	}()
	closed(t, idle)
	closed(t, slow)
	<-gone
}

func TestCloseAnswersWhatIsInFlight(t *testing.T) {
	s := serve(t, Options{})
	waiting, idle := s.dial(t), s.dial(t)
	send(t, idle, request(3, 1, 1, "c", nil))
	receive(t, idle)
	send(t, waiting, request(3, 1, 1, "c", nil))
	receive(t, waiting)
	send(t, waiting, request(3, 1, 2, "wait", []byte("answer")))
	<-s.handler.waiting
	done := make(chan error, 1)
	go func() { done <- s.Close(context.Background()) }()
	closed(t, idle) // at once
	close(s.handler.release)
	id, body := receive(t, waiting)
	if id != 2 || string(body) != "answer" {
		t.Errorf("%d %q", id, body)
	}
	closed(t, waiting)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Serve(listen(t)); !errors.Is(err, ErrServerClosed) {
		t.Errorf("serve after close: %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCloseCutsWhatDoesNotEnd(t *testing.T) {
	s := serve(t, Options{})
	c := s.dial(t)
	send(t, c, request(3, 1, 2, "wait", nil))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	<-s.handler.waiting
	if err := s.Close(ctx); err == nil {
		t.Error("close did not tell that it cut a request")
	}
	closed(t, c)
}

func TestObserve(t *testing.T) {
	seen := make(chan Exchange, 1)
	var open atomic.Int64
	s := serve(t, Options{Observe: func(x Exchange) { seen <- x }, Accepted: func(d int) { open.Add(int64(d)) }})
	c := s.dial(t)
	sent := request(3, 1, 2, "c", []byte("abc"))
	send(t, c, sent)
	receive(t, c)
	if x := <-seen; x.Key != 3 || x.RequestBytes != len(sent) || x.ResponseBytes != 4+4+3 || x.Duration <= 0 {
		t.Errorf("%+v", x)
	}
	if open.Load() != 1 {
		t.Errorf("%d connections", open.Load())
	}
}

func TestBufferPool(t *testing.T) {
	var p bufferPool
	for _, n := range []int{0, 1, 1 << 16, 1<<16 + 1, 1 << 20, 1 << 27, 1<<27 + 1} {
		b := p.get(n)
		if len(b) != 0 || cap(b) < n {
			t.Errorf("get(%d): %d of %d", n, len(b), cap(b))
		}
		p.put(b)
	}
	p.put(make([]byte, 0, 70_000)) // not a power of two: serves the class below
	if b := p.get(65_537); cap(b) < 65_537 {
		t.Errorf("got %d bytes for 65537", cap(b))
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x09\x00\x00\x00\x01\x00\x01c\x01\x05\x02abx"))
	table := newHeaderTable()
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := parseHeader(b)
		if err == nil {
			_, _ = table.body(h, rest)
		}
	})
}
