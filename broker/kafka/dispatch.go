package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// errUnsupported closes the connection of a client that asks for what ApiVersions does not list.
var errUnsupported = errors.New("unsupported request")

// Served reports whether a request is answered, and whether it is answered
// without being decoded: an ApiVersions request of a version to come.
func (s *Service) Served(key, version int16) (served, unread bool) {
	a := s.api(key)
	switch {
	case a == nil:
		return false, false
	case key == keyApiVersions && (version < a.min || version > a.max):
		return true, true
	}
	return version >= a.min && version <= a.max, false
}

// Serve answers one request: it appends the response's body to dst. respond
// is false if the client expects none; an error closes the connection.
// Neither body nor dst is kept.
func (x *Session) Serve(ctx context.Context, key, version int16, clientID string, body, dst []byte) (out []byte, respond bool, err error) {
	s, c := x.service, &x.client
	a := s.api(key)
	if a == nil {
		return dst, false, fmt.Errorf("%w: key %d", errUnsupported, key)
	}
	if key == keyApiVersions && (version < a.min || version > a.max) {
		return s.unknownApiVersions().AppendTo(dst), true, nil
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if err := decode(req, body); err != nil {
		return dst, false, fmt.Errorf("%s v%d of %d bytes cannot be decoded: %w", a.name, version, len(body), err)
	}
	c.ID, c.out = clientID, dst
	defer func() { c.out = nil }()
	if err := s.authorize(c, a, req); err != nil {
		return dst, false, err
	}
	resp, err := a.handle(s, ctx, c, req)
	if err != nil {
		return dst, false, fmt.Errorf("%s v%d: %w", a.name, version, err)
	}
	switch r := resp.(type) {
	case nil:
		return dst, false, nil
	case *encoded:
		return r.out, true, nil
	default:
		return resp.AppendTo(dst), true, nil
	}
}

// decode reads a request. Produce and Fetch alias the body: they are the ones
// that are large or frequent, and their handlers keep nothing of it.
func decode(req kmsg.Request, body []byte) error {
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		return r.UnsafeReadFrom(body)
	case *kmsg.FetchRequest:
		return r.UnsafeReadFrom(body)
	}
	return req.ReadFrom(body)
}

// authorize is where the principal of a connection and the resources of a
// request meet, before the request is handled. Every principal may do
// everything: the broker has no notion of principals.
func (s *Service) authorize(c *Client, a *api, req kmsg.Request) error { return nil }

// reply returns the empty response to a request, at its version.
func reply[R kmsg.Response](req kmsg.Request) R {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if d, ok := resp.(interface{ Default() }); ok {
		d.Default()
	}
	return resp.(R)
}
