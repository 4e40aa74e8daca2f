package deploy

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/runtime/module"
)

// Limits of a specification.
const (
	// MaxNameBytes leaves room for ".dlq" in the 249 bytes of a Kafka topic name.
	MaxNameBytes      = maxTopicBytes - len(deadLetterSuffix)
	maxTopicBytes     = 249
	MaxInputs         = 64
	MaxOutputs        = 64
	MaxConfigBytes    = 256 << 10 // keys and values together
	MaxByBytes        = 256
	MaxRetries        = 100
	deadLetterSuffix  = ".dlq"
	defaultOutputName = "out"
	digestPrefix      = "sha256:"
	internalPrefix    = "__"
)

// WithDefaults returns s with what its user left out filled in: the error
// policy, the start position, the desired state and the names of outputs
// given as a topic only. m may be nil.
func (s Spec) WithDefaults(m *module.Manifest) Spec {
	if s.OnError == "" {
		s.OnError = OnErrorDeadLetter
	}
	if s.Start == "" {
		s.Start = "latest"
	}
	if s.State == "" {
		s.State = Running
	}
	s.Outputs = slices.Clone(s.Outputs)
	names := outputNames(m)
	if len(s.Outputs) == 1 && s.Outputs[0].Name == "" && len(names) == 1 {
		s.Outputs[0].Name = names[0]
	}
	return s
}

// EffectiveConfig is what the guest is told: the manifest's defaults under the values of the deployment.
func (s Spec) EffectiveConfig(m *module.Manifest) map[string]string {
	config := make(map[string]string, len(s.Config))
	if m != nil {
		for _, k := range m.Config {
			if k.Default != "" {
				config[k.Name] = k.Default
			}
		}
	}
	maps.Copy(config, s.Config)
	return config
}

// Validate checks what can be told of s, with its defaults, by itself and by its module's
// manifest (nil: the module has none, and any config, asset and output name
// goes; a manifest that declares no outputs takes any of these). Errors wrap ErrInvalid and name the field and the fix.
func (s Spec) Validate(m *module.Manifest) error {
	checks := []func() error{
		func() error { return CheckName(s.Name) },
		func() error { return CheckDigest("module", s.Module) },
		s.checkInputs,
		func() error { return s.checkOutputs(m) },
		func() error { return s.checkConfig(m) },
		func() error { return s.checkAssets(m) },
		s.checkModes,
		s.checkFailures,
		s.checkUntil,
		s.Limits.check,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckName tells whether name can name a deployment: it becomes a consumer group and the name of a dead letter topic.
func CheckName(name string) error {
	if name == "" {
		return invalid("the deployment has no name: give one with --name")
	}
	if len(name) > MaxNameBytes {
		return invalid("name %.40q… has %d bytes, at most %d are allowed (%q is appended for the dead letter topic)", name, len(name), MaxNameBytes, deadLetterSuffix)
	}
	return checkTopicRules("deployment name", name)
}

// CheckTopic tells whether name can name a topic of a deployment.
func CheckTopic(role, name string) error {
	if name == "" {
		return invalid("an %s topic has no name", role)
	}
	if len(name) > maxTopicBytes {
		return invalid("%s topic %.40q… has %d bytes, a topic name has at most %d", role, name, len(name), maxTopicBytes)
	}
	return checkTopicRules(role+" topic", name)
}

// checkTopicRules applies Kafka's rules for topic names (org.apache.kafka.common.internals.Topic).
func checkTopicRules(role, name string) error {
	if name == "." || name == ".." {
		return invalid("%s cannot be %q", role, name)
	}
	if strings.HasPrefix(name, internalPrefix) {
		return invalid("%s %q begins with two underscores, which is kept for the system's own topics", role, name)
	}
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return invalid("%s %q has the character %q at position %d: use only letters, digits, '.', '_' and '-'", role, name, r, i)
		}
	}
	return nil
}

// CheckDigest tells whether text is the digest of a module or asset, as uploading answers it.
func CheckDigest(role, text string) error {
	digits, ok := strings.CutPrefix(text, digestPrefix)
	if !ok {
		return invalid("%s %q is not a digest: upload it first and name it by the answered sha256:…", role, text)
	}
	if b, err := hex.DecodeString(digits); err != nil || len(b) != len(module.Digest{}) || digits != strings.ToLower(digits) {
		return invalid("%s digest %q is not sha256: and 64 lower case hex digits", role, text)
	}
	return nil
}

// ParseDigest is the inverse of module.Digest.String.
func ParseDigest(text string) (module.Digest, error) {
	var d module.Digest
	if err := CheckDigest("module", text); err != nil {
		return d, err
	}
	if _, err := hex.Decode(d[:], []byte(text[len(digestPrefix):])); err != nil {
		return d, invalid("digest %q: %w", text, err)
	}
	return d, nil
}

func (s Spec) checkInputs() error {
	if len(s.Inputs) == 0 {
		return invalid("deployment %q reads no topic: give one with --from", s.Name)
	}
	if len(s.Inputs) > MaxInputs {
		return invalid("deployment %q reads %d topics, at most %d are allowed", s.Name, len(s.Inputs), MaxInputs)
	}
	for i, t := range s.Inputs {
		if err := CheckTopic("input", t); err != nil {
			return err
		}
		if slices.Contains(s.Inputs[:i], t) {
			return invalid("input topic %q is named twice", t)
		}
	}
	return nil
}

func (s Spec) checkOutputs(m *module.Manifest) error {
	known, declared := outputNames(m), m != nil && len(m.Outputs) > 0
	if len(s.Outputs) == 0 {
		fix := "give one with --to [OUTPUT=]TOPIC"
		if declared {
			fix += "; the module's outputs: " + strings.Join(known, ", ")
		}
		return invalid("deployment %q writes to no topic: %s", s.Name, fix)
	}
	if len(s.Outputs) > MaxOutputs {
		return invalid("deployment %q has %d outputs, at most %d are allowed", s.Name, len(s.Outputs), MaxOutputs)
	}
	for i, o := range s.Outputs {
		if o.Name == "" && !declared {
			return invalid("output topic %q has no output name, and there are several: write --to OUTPUT=%s, with a name that the module knows it by", o.Topic, o.Topic)
		}
		if o.Name == "" {
			return invalid("output topic %q has no output name, and the module has several: write --to OUTPUT=%s with OUTPUT one of %s", o.Topic, o.Topic, strings.Join(known, ", "))
		}
		if declared && !slices.Contains(known, o.Name) {
			return invalid("the module has no output %q%s; its outputs: %s", o.Name, suggestion(o.Name, known), strings.Join(known, ", "))
		}
		if err := CheckTopic("output", o.Topic); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Outputs[:i], func(p Output) bool { return p.Name == o.Name }) {
			return invalid("output %q is bound twice: an output goes to one topic", o.Name)
		}
	}
	return nil
}

// outputNames are the outputs a module declares. One that declares none takes those
// that its deployment names; a single topic without a name is then called "out".
func outputNames(m *module.Manifest) []string {
	if m == nil || len(m.Outputs) == 0 {
		return []string{defaultOutputName}
	}
	names := make([]string, len(m.Outputs))
	for i, o := range m.Outputs {
		names[i] = o.Name
	}
	return names
}

func (s Spec) checkConfig(m *module.Manifest) error {
	size := 0
	for k, v := range s.Config {
		if k == "" {
			return invalid("a config value has no key: write --config KEY=VALUE")
		}
		size += len(k) + len(v)
	}
	if size > MaxConfigBytes {
		return invalid("the config has %d bytes, at most %d are allowed: give large data as an asset (--asset NAME=FILE)", size, MaxConfigBytes)
	}
	if m == nil {
		return nil
	}
	known := make([]string, len(m.Config))
	for i, k := range m.Config {
		known[i] = k.Name
	}
	for _, k := range slices.Sorted(maps.Keys(s.Config)) {
		if !slices.Contains(known, k) {
			return invalid("the module has no config key %q%s; its keys: %s", k, suggestion(k, known), listOrNone(known))
		}
	}
	for _, k := range m.Config {
		v, given := s.Config[k.Name]
		if !given && k.Required && k.Default == "" {
			return invalid("the module needs the config value %q%s: give it with --config %s=VALUE", k.Name, described(k.Description), k.Name)
		}
		if given && len(k.Values) > 0 && !slices.Contains(k.Values, v) {
			return invalid("config value %s=%q is not allowed%s; allowed: %s", k.Name, v, suggestion(v, k.Values), strings.Join(k.Values, ", "))
		}
	}
	return nil
}

func (s Spec) checkAssets(m *module.Manifest) error {
	for _, name := range slices.Sorted(maps.Keys(s.Assets)) {
		if name == "" {
			return invalid("an asset has no name: write --asset NAME=FILE")
		}
		if err := CheckDigest("asset "+name, s.Assets[name]); err != nil {
			return err
		}
	}
	if m == nil {
		return nil
	}
	known := make([]string, len(m.Assets))
	for i, a := range m.Assets {
		known[i] = a.Name
	}
	for _, name := range slices.Sorted(maps.Keys(s.Assets)) {
		if !slices.Contains(known, name) {
			return invalid("the module takes no asset %q%s; its assets: %s", name, suggestion(name, known), listOrNone(known))
		}
	}
	for _, a := range m.Assets {
		if _, given := s.Assets[a.Name]; a.Required && !given {
			return invalid("the module needs the asset %q%s: give it with --asset %s=FILE", a.Name, described(a.Description), a.Name)
		}
	}
	return nil
}

func (s Spec) checkModes() error {
	policies := []string{OnErrorDeadLetter, OnErrorSkip, OnErrorStop}
	if !slices.Contains(policies, s.OnError) {
		return invalid("error policy %q is unknown%s: use one of %s", s.OnError, suggestion(s.OnError, policies), strings.Join(policies, ", "))
	}
	kinds := []string{DeliveryExactlyOnce, DeliveryAtLeastOnce}
	if s.Delivery != "" && !slices.Contains(kinds, s.Delivery) {
		return invalid("delivery %q is unknown%s: use one of %s", s.Delivery, suggestion(s.Delivery, kinds), strings.Join(kinds, ", "))
	}
	if len(s.By) > MaxByBytes {
		return invalid("who deploys has %d bytes, at most %d are allowed", len(s.By), MaxByBytes)
	}
	states := []string{Running, Paused, Completed}
	if !slices.Contains(states, s.State) {
		return invalid("state %q is unknown%s: use one of %s", s.State, suggestion(s.State, states), strings.Join(states, ", "))
	}
	_, err := ParseStart(s.Start, s.Created)
	return err
}

// checkFailures checks what happens to records that fail.
func (s Spec) checkFailures() error {
	if s.Retries != nil && (*s.Retries < 0 || *s.Retries > MaxRetries) {
		return invalid("retries is %d, allowed are 0 to %d", *s.Retries, MaxRetries)
	}
	f := s.FailureLimit
	if f.Percent < 0 || f.Percent > 100 {
		return invalid("the failure limit is %d percent, allowed are 1 to 100, where 100 lets all records fail", f.Percent)
	}
	if f.Window != 0 && (f.Window < MinFailureWindow || f.Window > MaxFailureWindow) {
		return invalid("the failure limit counts for %v, allowed are %v to %v", f.Window, MinFailureWindow, MaxFailureWindow)
	}
	return nil
}

func (s Spec) checkUntil() error {
	_, err := ParseUntil(s.Until)
	return err
}

// Ranges of the limits; zero is always allowed and means the default.
const (
	MinMemoryBytes   = 64 << 10 // one Wasm page
	MaxMemoryBytes   = 512 << 20
	MinFuelPerRecord = 10_000
	MaxFuelPerRecord = 1_000_000_000_000
	MinWallTime      = time.Millisecond
	MaxWallTime      = time.Minute
	MinOutputBytes   = 1 << 10
	MaxOutputBytes   = 256 << 20
	MaxLogLines      = 10_000 // a second
)

func (l Limits) check() error {
	ranges := []struct {
		name             string
		value, low, high int64
	}{
		{"memory_bytes", l.MemoryBytes, MinMemoryBytes, MaxMemoryBytes},
		{"fuel_per_record", l.FuelPerRecord, MinFuelPerRecord, MaxFuelPerRecord},
		{"output_bytes", l.OutputBytes, MinOutputBytes, MaxOutputBytes},
		{"log_lines", int64(l.LogLines), 1, MaxLogLines},
	}
	for _, r := range ranges {
		if r.value != 0 && (r.value < r.low || r.value > r.high) {
			return invalid("limit %s is %d, allowed are %d to %d", r.name, r.value, r.low, r.high)
		}
	}
	if l.WallTime != 0 && (l.WallTime < MinWallTime || l.WallTime > MaxWallTime) {
		return invalid("limit wall_time is %v, allowed are %v to %v", l.WallTime, MinWallTime, MaxWallTime)
	}
	return nil
}

func described(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func listOrNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
