//go:build !wasm

package transform

import "github.com/millstream-io/millstream/sdk/go/transform/internal/bridge"

// port is the way to the host, which in native tests is transformtest.
type port struct{ bridge.Host }

func (p port) log(level uint32, b []byte) { p.Log(level, b) }
func (p port) flush(b []byte)             { p.Flush(b) }

type nativeGuest struct{ guest }

func (g *nativeGuest) Setup(block []byte) string { return g.setup(block) }

func (g *nativeGuest) Process(block []byte) (records int, entries []byte) {
	n, used := g.process(block)
	return int(n), g.context.area[:used]
}

func init() {
	bridge.New = func(h bridge.Host, areaBytes int, onSetup, onRecord any) bridge.Guest {
		g := &nativeGuest{guest{handlers: registered}}
		if f, ok := onSetup.(SetupFunc); ok && f != nil {
			g.onSetup = f
		}
		if f, ok := onRecord.(RecordFunc); ok && f != nil {
			g.onRecord = f
		}
		g.context.host = port{h}
		g.context.area = make([]byte, areaBytes)
		return g
	}
}
