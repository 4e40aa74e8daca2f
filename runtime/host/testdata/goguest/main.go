// Command guest is the Go guest of the host's tests. Config "mode" chooses what it does.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millstream-io/millstream/sdk/go/transform"
)

var (
	mode    string
	asset   []byte
	handler transform.RecordFunc
	kept    [][]byte
)

func init() {
	transform.OnSetup(setup)
	transform.OnRecord(func(c *transform.Context, r transform.Record) error { return handler(c, r) })
}

func main() {}

func setup(s *transform.Setup) error {
	mode = s.ConfigOr("mode", "identity")
	asset, _ = s.Asset("words")
	f, ok := handlers[mode]
	if !ok {
		return errors.New("config mode=" + mode + ": unknown")
	}
	handler = f
	s.Log(transform.LevelInfo, "ready as "+s.Deployment())
	return nil
}

var handlers = map[string]transform.RecordFunc{
	"identity": func(c *transform.Context, r transform.Record) error {
		c.Emit(r)
		return nil
	},
	"describe": func(c *transform.Context, r transform.Record) error {
		var b strings.Builder
		fmt.Fprintf(&b, "%s/%d@%d %d null=%t,%t", c.Topic(), c.Partition(), r.Offset, c.Now().UnixMilli(), r.Key == nil, r.Value == nil)
		for name, value := range r.Headers.All() {
			fmt.Fprintf(&b, " %s=%q,%t", name, value, value == nil)
		}
		fmt.Fprintf(&b, " asset=%s", asset)
		c.Emit(transform.Record{Value: []byte(b.String())})
		return nil
	},
	// Emits each word of the value, then rejects if one of them is "bad".
	"words": func(c *transform.Context, r transform.Record) error {
		var err error
		for _, word := range strings.Fields(string(r.Value)) {
			c.Emit(transform.Record{Key: r.Key, Value: []byte(word)})
			if word == "bad" {
				err = errors.New("a bad word")
			}
		}
		return err
	},
	// To the output that the key names, stamped, with one header more.
	"route": func(c *transform.Context, r transform.Record) error {
		r.Headers.Add("seen", nil)
		r.Timestamp = 4242
		c.EmitNamed(string(r.Key), r)
		return nil
	},
	// One output a thousand times larger than the input.
	"large": func(c *transform.Context, r transform.Record) error {
		c.Emit(transform.Record{Value: []byte(strings.Repeat(string(r.Value), 1000))})
		return nil
	},
	"world": func(c *transform.Context, r transform.Record) error {
		var random [8]byte
		if _, err := rand.Read(random[:]); err != nil {
			return err
		}
		time.Sleep(time.Hour)
		c.Emit(transform.Record{Value: []byte(time.Now().UTC().Format(time.RFC3339Nano) + " " + hex.EncodeToString(random[:]))})
		return nil
	},
	"print": func(c *transform.Context, r transform.Record) error {
		fmt.Print(string(r.Value))
		c.Log(transform.LevelError, "logged "+string(r.Value))
		return nil
	},
	"panic": func(c *transform.Context, r transform.Record) error { panic("as it was told") },
	"spin": func(c *transform.Context, r transform.Record) error {
		for string(r.Value) == "spin" {
		}
		c.Emit(r)
		return nil
	},
	"memory": func(c *transform.Context, r transform.Record) error {
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	},
	"headers": func(c *transform.Context, r transform.Record) error {
		n := 0
		i := r.Headers.Iterate()
		for i.Next() {
			n += len(i.Name) + len(i.Value)
		}
		if n == 1 {
			c.Reject("one")
			return nil
		}
		r.Headers.Set("length", r.Key)
		c.Emit(r)
		c.EmitTo(0, r)
		return nil
	},
}
