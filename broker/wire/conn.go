package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
)

// chunkBytes is what has to be read or written within the progress timeout,
// and the most that is allocated for bytes that have not arrived.
const chunkBytes = 1 << 20

// frameLengthBytes is the length in front of each frame; it does not count itself.
const frameLengthBytes = 4

// conn is one connection.
type conn struct {
	server   *Server
	nc       net.Conn
	host     string
	reader   *bufio.Reader
	session  Session
	clientID string

	out       []byte // buffer of the last response, if it was small
	largeHint int    // size of the last response, if it was large
}

func newConn(s *Server, nc net.Conn, host string) *conn {
	return &conn{server: s, nc: nc, host: host, reader: bufio.NewReaderSize(nc, smallBufferBytes)}
}

// interrupt ends the wait for the next request.
func (c *conn) interrupt() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

func (c *conn) serve(ctx context.Context) {
	logger := c.server.o.Logger.With("remote", c.nc.RemoteAddr().String())
	defer func() {
		// A bug in a handler costs one connection, not the broker.
		if p := recover(); p != nil {
			logger.Error("request handler panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	c.session = c.server.o.Handler.Connect(c.nc.RemoteAddr(), c.nc.LocalAddr(), c.watch)
	defer c.session.Close()
	for {
		err := c.exchange(ctx)
		if err == nil {
			continue
		}
		logEnd(logger, err, c.server.isClosed())
		return
	}
}

func logEnd(logger *slog.Logger, err error, closing bool) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, ErrClientGone), closing, errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET): // clients come and go
		logger.Debug("connection ended", "reason", err)
	default:
		logger.Info("connection closed", "reason", err)
	}
}

// exchange reads one request and writes its response.
func (c *conn) exchange(ctx context.Context) error {
	frame, pooled, err := c.readFrame()
	if err != nil {
		return err
	}
	if pooled {
		defer c.server.buffers.put(frame)
	}
	start := time.Now()
	h, rest, err := parseHeader(frame)
	if err != nil {
		return err
	}
	if string(h.clientID) != c.clientID {
		c.clientID = string(h.clientID)
	}
	response, err := c.answer(ctx, h, rest)
	if err != nil {
		return err
	}
	if err := c.write(response); err != nil {
		return err
	}
	if c.server.o.Observe != nil {
		c.server.o.Observe(Exchange{Key: h.key, Duration: time.Since(start),
			RequestBytes: len(frame) + frameLengthBytes, ResponseBytes: len(response)})
	}
	c.keep(response)
	return nil
}

// answer returns the frame of the response; empty if none is to be sent.
func (c *conn) answer(ctx context.Context, h header, rest []byte) ([]byte, error) {
	var body []byte
	switch c.server.o.Handler.Accept(h.key, h.version) {
	case Refuse:
		return nil, fmt.Errorf("request key %d version %d is not served (client id %q)", h.key, h.version, c.clientID)
	case AnswerUnread: // even the header may have a form that is not known
	default:
		var err error
		if body, err = c.server.headers.body(h, rest); err != nil {
			return nil, err
		}
		if err := c.server.guard(h.key, h.version, body); err != nil {
			return nil, err
		}
	}
	out := c.buffer()
	out = append(out, 0, 0, 0, 0)
	out = kbin.AppendInt32(out, h.correlationID)
	if c.server.headers.flexibleResponse(h.key, h.version) {
		out = append(out, 0)
	}
	out, respond, err := c.session.Serve(ctx, Request{Key: h.key, Version: h.version, ClientID: c.clientID, Body: body}, out)
	if err != nil {
		return nil, fmt.Errorf("request key %d version %d: %w", h.key, h.version, err)
	}
	if !respond {
		return out[:0], nil
	}
	size := len(out) - frameLengthBytes
	if size > 1<<31-1 {
		return nil, fmt.Errorf("response of %d bytes to request key %d does not fit in a frame", size, h.key)
	}
	binary.BigEndian.PutUint32(out, uint32(size))
	return out, nil
}

// buffer returns an empty buffer for the next response.
func (c *conn) buffer() []byte {
	if c.largeHint > 0 {
		return c.server.buffers.get(c.largeHint)
	}
	if c.out == nil {
		c.out = make([]byte, 0, smallBufferBytes)
	}
	return c.out[:0]
}

// keep decides where the buffer of a written response goes.
func (c *conn) keep(b []byte) {
	if cap(b) <= smallBufferBytes {
		c.out, c.largeHint = b[:0], 0
		return
	}
	c.largeHint = len(b)
	if len(b) <= smallBufferBytes {
		c.largeHint = 0
	}
	c.server.buffers.put(b)
}

// readFrame returns the next request without its length. It aliases the read
// buffer, unless pooled says that it is a buffer of the pool.
func (c *conn) readFrame() (frame []byte, pooled bool, err error) {
	o := &c.server.o
	_ = c.nc.SetReadDeadline(time.Now().Add(o.IdleTimeout))
	if c.server.isClosed() { // after the deadline is set, so that an interrupt is not overwritten unseen
		return nil, false, ErrServerClosed
	}
	prefix, err := c.reader.Peek(frameLengthBytes + 2)
	if err != nil {
		if len(prefix) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, err
	}
	size := int(int32(binary.BigEndian.Uint32(prefix)))
	key := int16(binary.BigEndian.Uint16(prefix[frameLengthBytes:]))
	limit := o.MaxControlFrameBytes
	if key == keyProduce {
		limit = o.MaxFrameBytes
	}
	if size < minHeaderBytes || size > limit {
		return nil, false, fmt.Errorf("frame of %d bytes with request key %d: allowed are %d to %d", size, key, minHeaderBytes, limit)
	}
	if _, err := c.reader.Discard(frameLengthBytes); err != nil {
		return nil, false, err
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(o.ProgressTimeout))
	if size <= smallBufferBytes {
		if frame, err = c.reader.Peek(size); err != nil {
			return nil, false, fmt.Errorf("frame of %d bytes is cut short: %w", size, err)
		}
		_, err = c.reader.Discard(size) // the bytes stay where they are until the next read
		return frame, false, err
	}
	frame, err = c.readLarge(size)
	return frame, true, err
}

// readLarge reads a frame into a buffer that grows as the bytes come in, so that a claim alone costs little.
func (c *conn) readLarge(size int) ([]byte, error) {
	pool := &c.server.buffers
	buf := pool.get(min(size, chunkBytes))
	for len(buf) < size {
		if len(buf) == cap(buf) {
			grown := append(pool.get(min(2*cap(buf), size)), buf...)
			pool.put(buf)
			buf = grown
		}
		from := len(buf)
		to := min(size, cap(buf), from+chunkBytes)
		if from > 0 {
			_ = c.nc.SetReadDeadline(time.Now().Add(c.server.o.ProgressTimeout))
		}
		if _, err := io.ReadFull(c.reader, buf[from:to]); err != nil {
			pool.put(buf)
			return nil, fmt.Errorf("frame of %d bytes is cut short: %w", size, err)
		}
		buf = buf[:to]
	}
	return buf, nil
}

func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunkBytes)
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.server.o.ProgressTimeout))
		if _, err := c.nc.Write(b[:n]); err != nil {
			return fmt.Errorf("write response: %w", err)
		}
		b = b[n:]
	}
	return nil
}
