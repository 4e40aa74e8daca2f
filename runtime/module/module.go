// Package module is about the bytes of a WebAssembly module before anything
// runs them: its digest, its manifest (a custom section), the streaming
// pre-check that refuses what would hurt the host, and the rewriting that adds
// fuel metering. It is pure Go over byte slices, allocates nothing by a count
// that the module merely claims, and does not import wazero.
package module

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Digest is the SHA-256 of a module's original bytes.
type Digest [sha256.Size]byte

// String returns "sha256:" and the hex digits.
func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// Short returns the first twelve hex digits, for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ErrRefused marks every refusal of the pre-check; errors.As gives *Refusal.
var ErrRefused = errors.New("module refused")

// Refusal says what is wrong with a module, where, and how to mend it.
type Refusal struct {
	Reason   string
	Position int // byte offset in the module, -1 if it has none
	Fix      string
}

// Error implements error.
func (r *Refusal) Error() string {
	s := r.Reason
	if r.Position >= 0 {
		s = fmt.Sprintf("%s (at byte %d)", s, r.Position)
	}
	if r.Fix != "" {
		s += ": " + r.Fix
	}
	return s
}

// Unwrap makes errors.Is(err, ErrRefused) true.
func (r *Refusal) Unwrap() error { return ErrRefused }

// Caps are the limits of the pre-check.
type Caps struct {
	SizeBytes          int
	Types              int
	Imports            int
	Globals            int
	Exports            int
	Functions          int
	DataSegments       int
	TableMin           int
	Elements           int
	MemoryBytes        int64 // largest allowed minimum
	BodyBytes          int
	Locals             int
	BlockDepth         int
	LoopDepth          int
	BlocksTimesLocals  int // one function
	BlocksTimesLocalsM int // whole module
	BranchTargets      int // one br_table
	BranchTargetsM     int // whole module
}

// Manifest is what a module says of itself, as JSON in the custom section ManifestSection.
type Manifest struct {
	Name        string       `json:"name" yaml:"name"`
	Version     string       `json:"version,omitempty" yaml:"version,omitempty"`
	Description string       `json:"description,omitempty" yaml:"description,omitempty"`
	ABI         string       `json:"abi,omitempty" yaml:"abi,omitempty"` // "millstream/v1"
	Language    string       `json:"language,omitempty" yaml:"language,omitempty"`
	Toolchain   string       `json:"toolchain,omitempty" yaml:"toolchain,omitempty"`
	Config      []ConfigKey  `json:"config,omitempty" yaml:"config,omitempty"`
	Assets      []AssetKey   `json:"assets,omitempty" yaml:"assets,omitempty"`
	Outputs     []OutputPort `json:"outputs,omitempty" yaml:"outputs,omitempty"` // empty: those that the deployment names
}

// ConfigKey documents one config value of a module.
type ConfigKey struct {
	Name        string   `json:"name" yaml:"name"`
	Description string   `json:"description,omitempty" yaml:"description,omitempty"`
	Default     string   `json:"default,omitempty" yaml:"default,omitempty"`
	Required    bool     `json:"required,omitempty" yaml:"required,omitempty"`
	Values      []string `json:"values,omitempty" yaml:"values,omitempty"` // allowed values; empty: any
}

// AssetKey documents one file a module can be given at deploy time.
type AssetKey struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
	Required    bool   `json:"required,omitempty" yaml:"required,omitempty"`
}

// OutputPort documents one output.
type OutputPort struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
}

// ManifestSection is the name of the custom section with the manifest.
const ManifestSection = "millstream.manifest"

// Report is what the pre-check learned.
type Report struct {
	Digest    Digest
	SizeBytes int
	Manifest  *Manifest // nil: the module has none
	Exports   []string  // exported functions
	Imports   []Import
	MemoryMin int64    // bytes
	Warnings  []string // e.g. asyncify exports
}

// Import is one imported function.
type Import struct{ Module, Name string }

// Names the rewriter uses; a module that brings them itself is refused.
const (
	FuelGlobal  = "millstream_fuel"  // exported mutable i64
	DepthGlobal = "millstream_depth" // exported mutable i32
	MeterModule = "millstream_meter" // import module of the yield function
	MeterYield  = "yield"            // () → (): called when fuel runs below zero
	MeterDepth  = "overflow"         // () → (): called when the call depth is over the cap
)

// MeterVersion changes with every change of what Meter writes; it belongs in cache keys.
const MeterVersion = "1"
