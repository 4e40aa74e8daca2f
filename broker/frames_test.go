package broker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// request encodes a request as a client with id "t" sends it.
func request(r kmsg.Request, version int16) []byte {
	r.SetVersion(version)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("t")).AppendRequest(nil, r, 7)
}

// Whatever bytes come, the connection is closed and the broker goes on.
func TestBrokenFrames(t *testing.T) {
	r := start(t, broker.Options{})
	metadata := request(kmsg.NewPtrMetadataRequest(), 9)
	for name, sent := range map[string][]byte{
		"garbage":             bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4),
		"zero length":         {0, 0, 0, 0, 0, 0, 0, 0},
		"negative length":     {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"huge length":         {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 9},
		"over the limit":      append([]byte{0, 0x50, 0, 0, 0, 3}, make([]byte, 64)...),
		"header only":         frame([]byte{0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff}),
		"body cut short":      frame(metadata[4 : len(metadata)-2]),
		"unknown key":         frame([]byte{0x12, 0x34, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
		"unsupported version": frame([]byte{0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0}),
		"produce version 2":   frame([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0}),
		"client id too long":  frame([]byte{0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 'x'}),
		"tags without end":    frame([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}),
		"array without end":   frame([]byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			if got := exchange(t, r.address, sent); len(got) != 0 {
				t.Errorf("%d bytes came back, want a closed connection", len(got))
			}
		})
	}
	if err := r.client(t).ProduceSync(within(t), records("notes", 1)...).FirstErr(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// exchange sends bytes and reads until the broker closes the connection.
func exchange(t *testing.T, address string, sent []byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection stays open")
	}
	return got
}

// A frame that ends early keeps its connection waiting, and nobody else.
func TestTruncatedFrameHoldsUpNobody(t *testing.T) {
	r := start(t, broker.Options{})
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{0x05, 0, 0, 0, 0, 0, 0, 9, 0}); err != nil { // the begin of 80 MiB of Produce
		t.Fatal(err)
	}
	if err := r.client(t).ProduceSync(within(t), records("notes", 1)...).FirstErr(); err != nil {
		t.Error(err)
	}
}

func TestApiVersionsOfTheFuture(t *testing.T) {
	r := start(t, broker.Options{})
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, version := range []byte{77, 0} { // the second as a client would go on, over the same connection
		if _, err := c.Write(frame([]byte{0, 18, 0, version, 0, 0, 0, 5, 0xff, 0xff})); err != nil {
			t.Fatal(err)
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		body := readResponse(t, c, 5)
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		wantCode := int16(0)
		if version == 77 {
			wantCode = 35
		}
		if resp.ErrorCode != wantCode || len(resp.ApiKeys) < 20 {
			t.Errorf("version %d: error %d with %d keys, want error %d", version, resp.ErrorCode, len(resp.ApiKeys), wantCode)
		}
	}
}

// readResponse reads one frame with a header of version 0 and returns its body.
func readResponse(t *testing.T, c net.Conn, correlation uint32) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	if got := binary.BigEndian.Uint32(head[4:]); got != correlation {
		t.Fatalf("correlation id %d, want %d", got, correlation)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return body
}
