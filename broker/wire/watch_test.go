package wire

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A request that waits hears that its client has gone; one whose client stays does not.
func TestWatch(t *testing.T) {
	for name, leave := range map[string]bool{"client goes": true, "client stays": false} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Options{})
			causes := make(chan error, 1)
			s.handler.waits = func(ctx context.Context) {
				<-ctx.Done()
				causes <- context.Cause(ctx)
			}
			c := s.dial(t)
			if _, err := c.Write(request(3, 0, 1, "watch", []byte("body"))); err != nil {
				t.Fatal(err)
			}
			<-s.handler.waiting
			if leave {
				c.Close()
				if err := <-causes; !errors.Is(err, ErrClientGone) {
					t.Errorf("the wait ended with %v", err)
				}
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_ = s.Close(ctx)
			if err := <-causes; !errors.Is(err, context.Canceled) || errors.Is(err, ErrClientGone) {
				t.Errorf("the wait ended with %v", err)
			}
		})
	}
}

// After a watch the connection serves on, with and without a request that came in meanwhile.
func TestRequestsAfterWatch(t *testing.T) {
	s := serve(t, Options{})
	release := make(chan struct{}, 1)
	s.handler.waits = func(ctx context.Context) {
		select {
		case <-release:
		case <-ctx.Done():
			t.Errorf("the wait ended with %v", context.Cause(ctx))
		}
	}
	c := s.dial(t)
	for i := range int32(6) {
		frames := request(3, 0, 2*i, "watch", []byte("first"))
		early := i%2 == 0
		if early {
			frames = append(frames, request(3, 0, 2*i+1, "client", []byte("second"))...)
		}
		if _, err := c.Write(frames); err != nil {
			t.Fatal(err)
		}
		<-s.handler.waiting
		release <- struct{}{}
		if id, body := receive(t, c); id != 2*i || string(body) != "first" {
			t.Fatalf("round %d: response %d %q", i, id, body)
		}
		if !early {
			if _, err := c.Write(request(3, 0, 2*i+1, "client", []byte("second"))); err != nil {
				t.Fatal(err)
			}
		}
		if id, body := receive(t, c); id != 2*i+1 || string(body) != "second" {
			t.Fatalf("round %d: response %d %q", i, id, body)
		}
	}
}
