package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Change is one difference between two versions; an empty side means that there is none.
type Change struct {
	Field  string `json:"field"` // as in Spec's JSON; config.KEY, assets.NAME, outputs.NAME, limits.NAME
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Diff lists what differs from one version to the next, by field. Name, version,
// state and times are no part of it.
func Diff(before, after Spec) []Change {
	a, b := before.fields(), after.fields()
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y string) int { return cmp.Or(cmp.Compare(rank(x), rank(y)), strings.Compare(x, y)) })
	var changes []Change
	for _, k := range keys {
		if a[k] != b[k] {
			changes = append(changes, Change{Field: k, Before: a[k], After: b[k]})
		}
	}
	return changes
}

// rank puts the fields in the order of Spec.
func rank(field string) int {
	first, _, _ := strings.Cut(field, ".")
	return slices.Index([]string{"module", "inputs", "outputs", "config", "assets"}, first) & 0xf // the others, -1, come last
}

// fields are the settings of a version as text, with defaults as they work.
func (s Spec) fields() map[string]string {
	s = s.WithDefaults(nil)
	f := map[string]string{
		"module":        s.Module,
		"inputs":        strings.Join(s.Inputs, ", "),
		"on_error":      s.OnError,
		"delivery":      cmp.Or(s.Delivery, DeliveryExactlyOnce),
		"retries":       strconv.Itoa(s.EffectiveRetries()),
		"failure_limit": s.FailureLimit.String(),
		"start":         s.Start,
		"until":         s.Until,
	}
	for _, o := range s.Outputs {
		f["outputs."+o.Name] = o.Topic
	}
	for k, v := range s.Config {
		f["config."+k] = v
	}
	for k, v := range s.Assets {
		f["assets."+k] = v
	}
	for name, value := range map[string]int64{
		"memory_bytes": s.Limits.MemoryBytes, "fuel_per_record": s.Limits.FuelPerRecord,
		"output_bytes": s.Limits.OutputBytes, "log_lines": int64(s.Limits.LogLines),
	} {
		if value != 0 {
			f["limits."+name] = strconv.FormatInt(value, 10)
		}
	}
	if s.Limits.WallTime != 0 {
		f["limits.wall_time"] = s.Limits.WallTime.String()
	}
	return f
}

// String is the limit as ParseFailureLimit reads it, with its defaults.
func (l FailureLimit) String() string {
	return fmt.Sprintf("%d%%/%v", cmp.Or(l.Percent, DefaultFailurePercent), cmp.Or(l.Window, DefaultFailureWindow))
}

// EffectiveRetries is how often a record is tried again on which the guest trapped.
func (s Spec) EffectiveRetries() int {
	if s.Retries == nil {
		return DefaultRetries
	}
	return *s.Retries
}

// Swaps tells whether a running worker can go from before to s at a transaction boundary: what
// makes its group, the inputs and the delivery, is the same, and so is where a bounded run ends.
func (s Spec) Swaps(before Spec) bool {
	return slices.Equal(s.Inputs, before.Inputs) && s.Until == before.Until &&
		cmp.Or(s.Delivery, DeliveryExactlyOnce) == cmp.Or(before.Delivery, DeliveryExactlyOnce)
}
