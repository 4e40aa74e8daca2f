package abi

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Setup is what a guest is told once, before its first batch.
type Setup struct {
	Deployment string
	Inputs     []string          // topic names; a batch names its own by index
	Outputs    []string          // output names; output entries name theirs by index
	Config     map[string]string // the deployment's config values
	Assets     map[string][]byte // files given at deploy time, by name
}

// AppendSetup appends the setup block of s to dst. Config and assets are written
// in ascending order of their names, so equal setups have equal bytes.
func AppendSetup(dst []byte, s *Setup) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, SetupHeaderBytes)...)
	dst = append(dst, s.Deployment...)
	for _, names := range [][]string{s.Inputs, s.Outputs} {
		for _, name := range names {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(name)))
			dst = append(dst, name...)
		}
	}
	for _, name := range sortedKeys(s.Config) {
		dst = appendPair(dst, name, s.Config[name])
	}
	for _, name := range sortedKeys(s.Assets) {
		dst = appendPair(dst, name, s.Assets[name])
	}
	h := dst[start:]
	for i, v := range []int{len(h), Revision, len(s.Deployment), len(s.Inputs), len(s.Outputs), len(s.Config), len(s.Assets)} {
		binary.LittleEndian.PutUint32(h[4*i:], uint32(v))
	}
	return dst
}

// SetupSize returns the size of the block that AppendSetup writes, in bytes.
func SetupSize(s *Setup) int {
	n := SetupHeaderBytes + len(s.Deployment)
	for _, names := range [][]string{s.Inputs, s.Outputs} {
		for _, name := range names {
			n += 4 + len(name)
		}
	}
	for name, value := range s.Config {
		n += 8 + len(name) + len(value)
	}
	for name, data := range s.Assets {
		n += 8 + len(name) + len(data)
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func appendPair[V string | []byte](dst []byte, name string, value V) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(name)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, name...)
	return append(dst, value...)
}

// ParseSetup reads a setup block. Asset contents are views of b, all else is
// copied. Bytes between the last asset and the block's size are left to later
// revisions. Errors: ErrMalformed.
func ParseSetup(b []byte) (*Setup, error) {
	if len(b) < SetupHeaderBytes {
		return nil, fmt.Errorf("%w: setup block of %d bytes, its header alone has %d", ErrMalformed, len(b), SetupHeaderBytes)
	}
	field := func(i int) int { return int(binary.LittleEndian.Uint32(b[4*i:])) }
	if size := field(0); size < SetupHeaderBytes || size > len(b) {
		return nil, fmt.Errorf("%w: setup block says it has %d bytes, there are %d", ErrMalformed, size, len(b))
	}
	p := setupParser{rest: b[SetupHeaderBytes:field(0)]}
	s := &Setup{Deployment: string(p.take(field(2), "deployment name"))}
	for range p.count(field(3), 4, "inputs") {
		s.Inputs = append(s.Inputs, string(p.take(p.length("input"), "input")))
	}
	for range p.count(field(4), 4, "outputs") {
		s.Outputs = append(s.Outputs, string(p.take(p.length("output"), "output")))
	}
	s.Config = make(map[string]string)
	for range p.count(field(5), 8, "config values") {
		name, value := p.pair("config value")
		s.Config[string(name)] = string(value)
	}
	s.Assets = make(map[string][]byte)
	for range p.count(field(6), 8, "assets") {
		name, data := p.pair("asset")
		s.Assets[string(name)] = data
	}
	if p.err != nil {
		return nil, p.err
	}
	return s, nil
}

// setupParser takes sections off rest until one does not fit; from then on it
// gives nothing, and err says what was missing.
type setupParser struct {
	rest []byte
	err  error
}

func (p *setupParser) fail(what string, want int) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: setup block ends inside %s: %d bytes wanted, %d left", ErrMalformed, what, want, len(p.rest))
	}
	p.rest = nil
}

func (p *setupParser) take(n int, what string) []byte {
	if n > len(p.rest) {
		p.fail(what, n)
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

func (p *setupParser) length(what string) int {
	b := p.take(4, what)
	if b == nil {
		return 0
	}
	return int(binary.LittleEndian.Uint32(b))
}

// count returns n if n entries of at least minBytes each can be there at all.
func (p *setupParser) count(n, minBytes int, what string) int {
	if n > len(p.rest)/minBytes {
		p.fail(what, n*minBytes)
		return 0
	}
	return n
}

func (p *setupParser) pair(what string) (name, value []byte) {
	nameLen := p.length(what)
	valueLen := p.length(what)
	return p.take(nameLen, what), p.take(valueLen, what)
}
