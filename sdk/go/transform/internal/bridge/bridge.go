// Package bridge lets package transformtest run what package transform keeps
// to itself, without making it public.
package bridge

// Host is what a guest calls.
type Host interface {
	// Log takes a line; p is a view.
	Log(level uint32, p []byte)
	// Flush takes whole output entries; p is a view.
	Flush(p []byte)
}

// Guest is a transform as its host sees it.
type Guest interface {
	// Setup returns why the guest refuses its configuration; empty if it does not.
	Setup(block []byte) string
	// Process returns the output entries that were not flushed; a view.
	Process(block []byte) (records int, entries []byte)
}

// New makes a guest with an output area of areaBytes. onSetup and onRecord are
// the functions that OnSetup and OnRecord take; nil takes what was registered.
// Package transform sets it.
var New func(h Host, areaBytes int, onSetup, onRecord any) Guest
