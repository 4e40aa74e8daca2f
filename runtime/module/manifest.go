package module

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"
)

// ABIVersion1 is the value of Manifest.ABI for the native interface, version 1.
const ABIVersion1 = "millstream/v1"

// Most entries of each list of a manifest, and bytes of each text in it.
const (
	maxManifestEntries   = 256
	maxManifestTextBytes = 16 << 10
)

var (
	manifestName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)
	// keyName is wider: config keys, assets and outputs are named by the module's author.
	keyName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?$`)
)

// Validate checks the manifest's own rules: the form of names, duplicates,
// defaults that are among the allowed values.
func (m *Manifest) Validate() error {
	if !manifestName.MatchString(m.Name) {
		return fmt.Errorf("name %q must be 1 to 64 of a-z 0-9 . _ - and begin and end with a letter or digit", m.Name)
	}
	if m.ABI != "" && m.ABI != ABIVersion1 {
		return fmt.Errorf("abi %q is not known, this host speaks %q", m.ABI, ABIVersion1)
	}
	for _, text := range []string{m.Version, m.Description, m.Language, m.Toolchain} {
		if len(text) > maxManifestTextBytes || !utf8.ValidString(text) {
			return fmt.Errorf("a text of the manifest is not UTF-8 or longer than %d bytes", maxManifestTextBytes)
		}
	}
	if n := max(len(m.Config), len(m.Assets), len(m.Outputs)); n > maxManifestEntries {
		return fmt.Errorf("a list of the manifest has %d entries, at most %d are allowed", n, maxManifestEntries)
	}
	config := make([]string, len(m.Config))
	for i, k := range m.Config {
		config[i] = k.Name
		if err := k.validate(); err != nil {
			return err
		}
	}
	assets := make([]string, len(m.Assets))
	for i, a := range m.Assets {
		assets[i] = a.Name
	}
	outputs := make([]string, len(m.Outputs))
	for i, o := range m.Outputs {
		outputs[i] = o.Name
	}
	return errors.Join(distinct("config key", config), distinct("asset", assets), distinct("output", outputs))
}

func (k *ConfigKey) validate() error {
	if len(k.Values) == 0 || k.Default == "" {
		return nil
	}
	for _, v := range k.Values {
		if v == k.Default {
			return nil
		}
	}
	return fmt.Errorf("default %q of config key %q is none of its values %q", k.Default, k.Name, k.Values)
}

func distinct(what string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if !keyName.MatchString(n) {
			return fmt.Errorf("%s %q must be 1 to 128 of A-Z a-z 0-9 . _ - and not begin or end with . or -", what, n)
		}
		if seen[n] {
			return fmt.Errorf("%s %q appears twice", what, n)
		}
		seen[n] = true
	}
	return nil
}

// inJSON says what is wrong without the names of Go types, which nobody sees who writes a manifest.
func inJSON(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return fmt.Errorf("is a JSON %s, and has to be an object", wrong.Value)
		}
		return fmt.Errorf("field %s cannot be a JSON %s", wrong.Field, wrong.Value)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("is empty")
	}
	return err
}

// parseManifest reads and validates the content of a manifest section. Unknown
// fields are refused: they are typing errors or need a newer host.
func parseManifest(content []byte) (*Manifest, error) {
	if len(content) > maxManifestBytes {
		return nil, fmt.Errorf("has %d bytes, the limit is %d", len(content), maxManifestBytes)
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	m := &Manifest{}
	if err := d.Decode(m); err != nil {
		return nil, inJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("has something behind the JSON object at byte %d", d.InputOffset())
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// WithManifest returns wasm with m as its manifest section, in place of one it
// has. The section is the last one. wasm needs no Check before, but it must be
// a sequence of sections.
func WithManifest(wasm []byte, m *Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	content, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(content) > maxManifestBytes {
		return nil, fmt.Errorf("manifest: has %d bytes, the limit is %d", len(content), maxManifestBytes)
	}
	out := make([]byte, 0, len(wasm)+len(content)+len(ManifestSection)+16)
	out = append(out, magic+version...)
	err = eachSection(wasm, func(section []byte, custom string, _ []byte) {
		if custom != ManifestSection {
			out = append(out, section...)
		}
	})
	if err != nil {
		return nil, err
	}
	return appendSection(out, sectionCustom, append(appendName(nil, ManifestSection), content...)), nil
}

// ReadManifest returns the manifest of a module, nil if it has none. It looks at nothing else in wasm, which needs no
// Check before; one that Check accepts has the manifest that Check reports.
func ReadManifest(wasm []byte) (*Manifest, error) {
	var content []byte
	found := 0
	err := eachSection(wasm, func(_ []byte, custom string, inside []byte) {
		if custom == ManifestSection {
			content = inside
			found++
		}
	})
	switch {
	case err != nil:
		return nil, err
	case found == 0:
		return nil, nil
	case found > 1:
		return nil, &Refusal{Reason: "a second manifest", Position: -1}
	}
	m, err := parseManifest(content)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// eachSection calls f with every section of wasm, and with the name and the content of a custom one.
func eachSection(wasm []byte, f func(section []byte, custom string, content []byte)) error {
	if err := checkForm(wasm, Caps{SizeBytes: len(wasm)}); err != nil {
		return err
	}
	r := reader{b: wasm, pos: len(magic) + len(version), end: len(wasm)}
	for r.pos < len(wasm) {
		start := r.pos
		id := r.byte()
		size := int(r.u32())
		inside := reader{b: wasm, pos: r.pos}
		r.skip(size)
		if r.fault != nil {
			return r.fault
		}
		inside.end = r.pos
		custom := ""
		if id == sectionCustom {
			custom = string(inside.name("a custom section's name"))
		}
		f(wasm[start:r.pos], custom, wasm[inside.pos:inside.end])
	}
	return nil
}

func appendSection(out []byte, id byte, content []byte) []byte {
	out = binary.AppendUvarint(append(out, id), uint64(len(content)))
	return append(out, content...)
}

func appendName(out []byte, name string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(name))), name...)
}
