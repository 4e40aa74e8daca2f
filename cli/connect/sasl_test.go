package connect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// guarded is a broker that knows one user, and nothing but who it is itself.
func guarded(t *testing.T, user, password string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { guard(c, l.Addr().(*net.TCPAddr), "\x00"+user+"\x00"+password) })
		}
	})
	t.Cleanup(func() { l.Close(); connections.Wait() })
	return l.Addr().String()
}

// guard answers the requests of one connection; who is not logged in is cut off at the first real one.
func guard(c net.Conn, self *net.TCPAddr, token string) {
	defer c.Close()
	loggedIn := false
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame)))
		req.SetVersion(int16(binary.BigEndian.Uint16(frame[2:])))
		correlation := frame[4:8]
		body := frame[10+int16(binary.BigEndian.Uint16(frame[8:])):]
		if req.IsFlexible() {
			body = body[1:]
		}
		if err := req.ReadFrom(body); err != nil {
			return
		}
		var response kmsg.Response
		switch req := req.(type) {
		case *kmsg.ApiVersionsRequest:
			response = versions()
		case *kmsg.SASLHandshakeRequest:
			r := kmsg.NewPtrSASLHandshakeResponse()
			r.SupportedMechanisms = []string{"PLAIN"}
			if req.Mechanism != "PLAIN" {
				r.ErrorCode = kerr.UnsupportedSaslMechanism.Code
			}
			response = r
		case *kmsg.SASLAuthenticateRequest:
			r := kmsg.NewPtrSASLAuthenticateResponse()
			if loggedIn = bytes.Equal(req.SASLAuthBytes, []byte(token)); !loggedIn {
				r.ErrorCode = kerr.SaslAuthenticationFailed.Code
			}
			response = r
		case *kmsg.MetadataRequest:
			if !loggedIn {
				return
			}
			r := kmsg.NewPtrMetadataResponse()
			r.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: self.IP.String(), Port: int32(self.Port)}}
			response = r
		default:
			return
		}
		response.SetVersion(req.GetVersion())
		out := append([]byte{0, 0, 0, 0}, correlation...)
		if response.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
			out = append(out, 0)
		}
		out = response.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func versions() *kmsg.ApiVersionsResponse {
	r := kmsg.NewPtrApiVersionsResponse()
	for key, highest := range map[int16]int16{int16(kmsg.Metadata): 9, int16(kmsg.ApiVersions): 3, int16(kmsg.SASLHandshake): 1, int16(kmsg.SASLAuthenticate): 2} {
		r.ApiKeys = append(r.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: highest})
	}
	return r
}

func TestLogin(t *testing.T) {
	address := guarded(t, "mill", "right")
	for _, c := range []struct {
		name     string
		security Security
		fix      string // part of the way out; "": it works
	}{
		{"right", Security{Mechanism: "plain", User: "mill", passwordVariable: "right"}, ""},
		{"wrong password", Security{Mechanism: "plain", User: "mill", passwordVariable: "wrong"}, "check --sasl-user"},
		{"another mechanism", Security{Mechanism: "scram-sha-256", User: "mill", passwordVariable: "right"}, "another --sasl-mechanism"},
		{"nobody", Security{}, "--sasl-mechanism"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := ask(t, &Brokers{Addresses: address, Security: c.security})
			var e *command.Error
			switch {
			case c.fix == "" && err != nil:
				t.Error(err)
			case c.fix != "" && (!errors.As(err, &e) || !strings.Contains(e.Fix, c.fix)):
				t.Errorf("got %v, want a way out with %q", err, c.fix)
			}
		})
	}
}
