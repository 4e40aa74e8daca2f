package transform

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/millstream-io/millstream/sdk/go/transform/internal/bridge"
	"github.com/millstream-io/millstream/sdk/go/transform/internal/flat"
)

type discard struct{ flushed int }

func (d *discard) Log(uint32, []byte) {}
func (d *discard) Flush(p []byte)     { d.flushed += len(p) }

// batch is a batch block of count records with a key, a value and two headers.
func batch(count int) []byte {
	le := binary.LittleEndian
	b := make([]byte, flat.BatchHeaderBytes)
	le.PutUint32(b, uint32(count))
	for range count {
		start := len(b)
		b = append(b, make([]byte, flat.RecordHeaderBytes)...)
		b = append(b, "keyvalue"...)
		headers := NewHeaders("one", "1", "two", "2")
		b = append(b, headers.flat...)
		le.PutUint32(b[start:], uint32(len(b)-start))
		le.PutUint32(b[start+4:], 3)
		le.PutUint32(b[start+8:], 5)
		le.PutUint32(b[start+12:], 2)
	}
	return b
}

func setupBlock() []byte {
	le := binary.LittleEndian
	b := make([]byte, flat.SetupHeaderBytes)
	le.PutUint32(b[16:], 1)
	b = le.AppendUint32(b, 3)
	b = append(b, "out"...)
	le.PutUint32(b, uint32(len(b)))
	return b
}

func TestTheSDKAllocatesNothingPerRecord(t *testing.T) {
	fail := errors.New("no")
	seen := 0
	handlers := map[string]RecordFunc{
		"emit":   func(c *Context, r Record) error { c.Emit(r); return nil },
		"named":  func(c *Context, r Record) error { c.EmitNamed("out", r); return nil },
		"error":  func(c *Context, r Record) error { c.Emit(r); return fail },
		"reject": func(c *Context, r Record) error { c.Emit(r); c.Reject("no"); return nil },
		"log":    func(c *Context, r Record) error { c.Log(LevelInfo, "a line"); return nil },
		"headers": func(c *Context, r Record) error {
			for name, value := range r.Headers.All() {
				seen += len(name) + len(value)
			}
			i := r.Headers.Iterate()
			for i.Next() {
				seen += len(i.Name) + len(i.Value)
			}
			r.Headers.Add("three", r.Value)
			r.Headers.Set("one", r.Key)
			c.Emit(r)
			return nil
		},
	}
	for name, f := range handlers {
		t.Run(name, func(t *testing.T) {
			host := &discard{}
			g := bridge.New(host, 4<<10, nil, f)
			if refusal := g.Setup(setupBlock()); refusal != "" {
				t.Fatal(refusal)
			}
			block := batch(1000)
			g.Process(block)
			if n := testing.AllocsPerRun(10, func() { g.Process(block) }); n != 0 {
				t.Errorf("%v allocations for 1,000 records", n)
			}
			if name != "log" && host.flushed == 0 {
				t.Error("the output area was never full")
			}
		})
	}
}

func BenchmarkEmit(b *testing.B) {
	g := bridge.New(&discard{}, 64<<10, nil, RecordFunc(func(c *Context, r Record) error { c.Emit(r); return nil }))
	g.Setup(setupBlock())
	block := batch(1000)
	for range b.N {
		g.Process(block)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/record")
}
