package broker_test

import (
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

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// victim is a broker that gets whatever bytes there are, over a socket.
type victim struct {
	broker   *broker.Broker
	address  string
	conn     net.Conn
	requests int
	panicked atomic.Pointer[string]
}

const (
	// patience is how long an answer is waited for: some requests wait for data or for other members.
	patience = 30 * time.Millisecond
	// lifeRequests is when a victim is replaced by a fresh one, before it has collected too much.
	lifeRequests = 5000
)

func (v *victim) start(t testing.TB) {
	v.stop(t)
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "stack" {
			stack := a.Value.String()
			v.panicked.Store(&stack)
		}
		return a
	}}))
	b, err := broker.Open(context.Background(), broker.Options{FS: vfs.NewMem(), Dir: "/data", Logger: log, Bounds: smallBounds})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Topics().Create(context.Background(), "wide", 3, nil); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.Serve(l) }()
	v.broker, v.address, v.requests = b, l.Addr().String(), 0
}

func (v *victim) stop(t testing.TB) {
	if v.conn != nil {
		v.conn.Close()
		v.conn = nil
	}
	if v.broker != nil {
		if err := v.broker.Close(context.Background()); err != nil {
			t.Error(err)
		}
		v.broker = nil
	}
}

// ask sends a request and returns the response's body behind the correlation id; nil: there is none.
func (v *victim) ask(t testing.TB, key, version int16, flexible bool, body []byte) []byte {
	if v.requests++; v.broker == nil || v.requests > lifeRequests {
		v.start(t)
	}
	if v.conn == nil {
		var err error
		if v.conn, err = net.Dial("tcp", v.address); err != nil {
			t.Fatal(err)
		}
	}
	frame := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 0}, uint16(key))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	frame = append(frame, 0, 0, 0, 7, 0, 1, 'c') // correlation id, client id
	if flexible {
		frame = append(frame, 0)
	}
	frame = append(frame, body...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	response, err := v.exchange(frame)
	if err != nil {
		v.conn.Close()
		v.conn = nil
		if !errors.Is(err, os.ErrDeadlineExceeded) { // refused; what was wrong stands in the log
			return nil
		}
	}
	if len(response) < 4 || binary.BigEndian.Uint32(response) != 7 {
		return nil
	}
	return response[4:]
}

func (v *victim) exchange(frame []byte) ([]byte, error) {
	if err := v.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := v.conn.Write(frame); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(v.conn, size[:]); err != nil {
		return nil, err
	}
	response := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(v.conn, response)
	return response, err
}

// FuzzRequests sends any body as any request to a whole broker: no handler
// panics, and every answer is one that a client can decode to its last byte.
func FuzzRequests(f *testing.F) {
	var v victim
	v.start(f)
	f.Cleanup(func() { v.stop(f) })
	versions := kmsg.NewPtrApiVersionsResponse()
	if err := versions.ReadFrom(v.ask(f, versions.Key(), 0, false, nil)); err != nil {
		f.Fatal(err)
	}
	last := map[int16]int16{}
	for _, k := range versions.ApiKeys {
		last[k.ApiKey] = k.MaxVersion
		for version := k.MinVersion; version <= k.MaxVersion; version++ {
			r := kmsg.RequestForKey(k.ApiKey)
			r.SetVersion(version)
			f.Add(k.ApiKey, version, r.AppendTo(nil))
		}
	}
	for _, flood := range floods() {
		r := flood.request(0, []owner{{id: "o"}})
		r.SetVersion(min(last[r.Key()], 9))
		f.Add(r.Key(), r.GetVersion(), r.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		r := kmsg.RequestForKey(key)
		if r == nil || version < 0 || version > last[key] || len(body) > 1<<20 {
			return
		}
		r.SetVersion(version)
		answer := v.ask(t, key, version, r.IsFlexible(), body)
		if stack := v.panicked.Swap(nil); stack != nil {
			t.Fatalf("the handler panicked: %s", *stack)
		}
		if answer == nil {
			return
		}
		response := r.ResponseKind()
		response.SetVersion(version)
		if response.IsFlexible() && key != versions.Key() {
			answer = answer[1:] // no tags in the header
		}
		if err := response.ReadFrom(answer); err != nil {
			t.Fatalf("%T v%d cannot be decoded: %v", response, version, err)
		}
		if again := response.AppendTo(nil); len(again) != len(answer) {
			t.Fatalf("%T v%d has %d bytes, decoded and encoded %d", response, version, len(answer), len(again))
		}
	})
}
