package module

// DefaultCaps returns the caps that ordinary guests of every supported toolchain pass.
func DefaultCaps() Caps { panic("stub") }

// Check walks the module once and refuses (with *Refusal) what is malformed, over a cap or not offered by the host.
// It checks that the ABI's exports are there with the right signatures. allowedImports tells by "module.name" what the host gives.
func Check(wasm []byte, caps Caps, allowedImports func(module, name string) bool) (*Report, error) {
	panic("stub")
}

// Meter returns the module rewritten with fuel and depth metering. wasm must have passed Check.
// maxDepth caps nested calls.
func Meter(wasm []byte, maxDepth int) ([]byte, error) { panic("stub") }

// WithManifest returns wasm with m as its manifest section (replacing one it has).
func WithManifest(wasm []byte, m *Manifest) ([]byte, error) { panic("stub") }

// Validate checks the manifest's own rules (names, duplicates).
func (m *Manifest) Validate() error { panic("stub") }
