package topic

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/broker/commitlog"
	"github.com/millstream-io/millstream/broker/record"
)

// Names of topic configs that more than one place needs, as Kafka spells them.
const (
	ConfigCleanupPolicy    = "cleanup.policy"
	ConfigCompressionType  = "compression.type"
	ConfigMaxCompactionLag = "max.compaction.lag.ms"
	ConfigMaxMessageBytes  = "max.message.bytes"
	ConfigMinCompactionLag = "min.compaction.lag.ms"
	ConfigTimestampType    = "message.timestamp.type"
	ConfigRetentionBytes   = "retention.bytes"
	ConfigRetentionMillis  = "retention.ms"
	ConfigSegmentBytes     = "segment.bytes"
)

// ConfigType is the type of a config's value, for tools that describe configs.
type ConfigType int

// The types of values.
const (
	TypeBoolean ConfigType = iota
	TypeString
	TypeInt
	TypeLong
	TypeDouble
	TypeList
)

// ConfigDef defines a topic config.
type ConfigDef struct {
	Name    string
	Type    ConfigType
	Default string
	Doc     string

	min, max int64    // TypeInt, TypeLong
	oneOf    []string // allowed values; of each element for TypeList
	apply    func(*settings, string)
}

// settings are the effective configs of a topic, parsed.
type settings struct {
	log             commitlog.Config
	maxMessageBytes int64
	recompress      bool // batches are stored with codec, whatever the producer's
	codec           record.Codec
	logAppendTime   bool
	beforeMaxMillis int64 // math.MaxInt64: no limit
	afterMaxMillis  int64
}

// ConfigDefs returns the definitions of all topic configs, sorted by name.
// Configs of replication and tiered storage are known, so that clients that set
// them are served, and have no effect on a single node.
func ConfigDefs() []ConfigDef {
	defs := slices.Concat(retentionDefs(), messageDefs(), inertDefs())
	slices.SortFunc(defs, func(a, b ConfigDef) int { return strings.Compare(a.Name, b.Name) })
	return defs
}

func retentionDefs() []ConfigDef {
	long := func(name, value string, min int64, doc string, apply func(*settings, string)) ConfigDef {
		return ConfigDef{Name: name, Type: TypeLong, Default: value, Doc: doc, min: min, max: math.MaxInt64, apply: apply}
	}
	return []ConfigDef{
		{Name: ConfigCleanupPolicy, Type: TypeList, Default: "delete", oneOf: []string{"compact", "delete"},
			Doc: "delete drops old segments by age and size, compact keeps the last value of each key.",
			apply: func(s *settings, v string) {
				policies := splitList(v)
				s.log.Compact, s.log.Delete = slices.Contains(policies, "compact"), slices.Contains(policies, "delete")
			}},
		long(ConfigRetentionMillis, "604800000", -1, "Age at which a segment is dropped; -1 keeps it for ever.",
			func(s *settings, v string) { s.log.RetentionAge = limitMillis(v) }),
		long(ConfigRetentionBytes, "-1", -1, "Size of a partition above which its oldest segments are dropped; -1 is no limit.",
			func(s *settings, v string) { s.log.RetentionBytes = notZero(number(v)) }),
		{Name: ConfigSegmentBytes, Type: TypeInt, Default: "1073741824", min: 1024, max: math.MaxInt32,
			Doc:   "Size at which a new segment file is begun.",
			apply: func(s *settings, v string) { s.log.SegmentBytes = number(v) }},
		long("segment.ms", "604800000", 1, "Age at which a new segment file is begun.",
			func(s *settings, v string) { s.log.SegmentAge = millis(v) }),
		{Name: "index.interval.bytes", Type: TypeInt, Default: "4096", max: math.MaxInt32,
			Doc:   "Bytes of log between two entries of the offset index.",
			apply: func(s *settings, v string) { s.log.IndexIntervalBytes = int(notZero(number(v))) }},
		long("file.delete.delay.ms", "60000", 0, "How long the file of a dropped segment is kept.",
			func(s *settings, v string) { s.log.DeleteDelay = notZero(millis(v)) }),
		long("delete.retention.ms", "86400000", 0, "How long compaction keeps a tombstone.",
			func(s *settings, v string) { s.log.TombstoneAge = notZero(millis(v)) }),
		long(ConfigMinCompactionLag, "0", 0, "Age below which a record is not compacted.",
			func(s *settings, v string) { s.log.MinCompactionLag = millis(v) }),
		long(ConfigMaxCompactionLag, "9223372036854775807", 1, "Age at which a record is compacted at the latest, whatever share of the log is dirty.",
			func(s *settings, v string) {
				if s.log.MaxCompactionLag = millis(v); s.log.MaxCompactionLag == math.MaxInt64 {
					s.log.MaxCompactionLag = 0 // no limit
				}
			}),
		{Name: "min.cleanable.dirty.ratio", Type: TypeDouble, Default: "0.5",
			Doc:   "Share of uncompacted bytes at which a log is compacted.",
			apply: func(s *settings, v string) { s.log.MinDirtyRatio = ratio(v) }},
	}
}

func messageDefs() []ConfigDef {
	return []ConfigDef{
		{Name: ConfigMaxMessageBytes, Type: TypeInt, Default: "1048588", max: math.MaxInt32,
			Doc:   "Largest record batch, as sent (after compression).",
			apply: func(s *settings, v string) { s.maxMessageBytes = number(v) }},
		{Name: ConfigTimestampType, Type: TypeString, Default: "CreateTime", oneOf: []string{"CreateTime", "LogAppendTime"},
			Doc:   "Whether timestamps are the producer's or the time of the append.",
			apply: func(s *settings, v string) { s.logAppendTime = v == "LogAppendTime" }},
		{Name: "message.timestamp.before.max.ms", Type: TypeLong, Default: "9223372036854775807", max: math.MaxInt64,
			Doc:   "How far a producer's timestamp may lie in the past.",
			apply: func(s *settings, v string) { s.beforeMaxMillis = number(v) }},
		{Name: "message.timestamp.after.max.ms", Type: TypeLong, Default: "3600000", max: math.MaxInt64,
			Doc:   "How far a producer's timestamp may lie in the future.",
			apply: func(s *settings, v string) { s.afterMaxMillis = number(v) }},
		{Name: ConfigCompressionType, Type: TypeString, Default: "producer", oneOf: []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"},
			Doc:   "How batches are stored: as the producer compressed them, or compressed anew.",
			apply: func(s *settings, v string) { s.codec, s.recompress = codecNames()[v] }},
	}
}

// inertDefs are configs that clients and tools set and that mean nothing to a single node.
func inertDefs() []ConfigDef {
	long := func(name, value string, min, max int64, doc string) ConfigDef {
		return ConfigDef{Name: name, Type: TypeLong, Default: value, Doc: doc, min: min, max: max}
	}
	integer := func(name, value string, min int64, doc string) ConfigDef {
		return ConfigDef{Name: name, Type: TypeInt, Default: value, Doc: doc, min: min, max: math.MaxInt32}
	}
	boolean := func(name, doc string) ConfigDef {
		return ConfigDef{Name: name, Type: TypeBoolean, Default: "false", Doc: doc, oneOf: []string{"true", "false"}}
	}
	const durable = "Durability is decided by the producer's acks; no effect."
	const replication = "Replication; no effect on a single node."
	const tiered = "Tiered storage; no effect."
	const never = "9223372036854775807"
	return []ConfigDef{
		integer("min.insync.replicas", "1", 1, replication),
		boolean("unclean.leader.election.enable", replication),
		{Name: "leader.replication.throttled.replicas", Type: TypeList, Doc: replication},
		{Name: "follower.replication.throttled.replicas", Type: TypeList, Doc: replication},
		long("flush.messages", never, 1, math.MaxInt64, durable),
		long("flush.ms", never, 0, math.MaxInt64, durable),
		boolean("preallocate", "The log decides by itself; no effect."),
		integer("segment.index.bytes", "10485760", 4, "Indexes grow as they need; no effect."),
		long("segment.jitter.ms", "0", 0, math.MaxInt64, "No effect."),
		boolean("remote.storage.enable", tiered),
		boolean("remote.log.copy.disable", tiered),
		boolean("remote.log.delete.on.disable", tiered),
		long("local.retention.bytes", "-2", -2, math.MaxInt64, tiered),
		long("local.retention.ms", "-2", -2, math.MaxInt64, tiered),
		integer("compression.gzip.level", "-1", -1, "The broker chooses the level; no effect."),
		integer("compression.lz4.level", "9", 1, "The broker chooses the level; no effect."),
		integer("compression.zstd.level", "3", -131072, "The broker chooses the level; no effect."),
	}
}

// configTable is all definitions with the broker's defaults.
type configTable struct {
	defs     map[string]ConfigDef
	defaults map[string]string // the broker's, where they differ from Kafka's
}

func newConfigTable(defaults map[string]string) (*configTable, error) {
	t := &configTable{defs: make(map[string]ConfigDef), defaults: maps.Clone(defaults)}
	for _, d := range ConfigDefs() {
		t.defs[d.Name] = d
	}
	if err := t.validate(defaults); err != nil {
		return nil, fmt.Errorf("broker default: %w", err)
	}
	return t, nil
}

// validate refuses unknown names and values out of range, the first in the order of names.
func (t *configTable) validate(configs map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		d, ok := t.defs[name]
		if !ok {
			return fmt.Errorf("%w: unknown topic config %q", ErrInvalidConfig, name)
		}
		if err := d.check(configs[name]); err != nil {
			return err
		}
	}
	least, _ := t.value(configs, ConfigMinCompactionLag)
	most, _ := t.value(configs, ConfigMaxCompactionLag)
	if number(least) > number(most) {
		return fmt.Errorf("%w: %s=%s is more than %s=%s", ErrInvalidConfig, ConfigMinCompactionLag, least, ConfigMaxCompactionLag, most)
	}
	return nil
}

// value returns the effective value of a config.
func (t *configTable) value(configs map[string]string, name string) (value string, fromTopic bool) {
	if v, ok := configs[name]; ok {
		return v, true
	}
	if v, ok := t.defaults[name]; ok {
		return v, false
	}
	return t.defs[name].Default, false
}

// settings parses the effective configs of a topic; configs have been validated.
func (t *configTable) settings(configs map[string]string) *settings {
	s := &settings{}
	for name, d := range t.defs {
		if d.apply != nil {
			v, _ := t.value(configs, name)
			d.apply(s, v)
		}
	}
	return s
}

func (d *ConfigDef) check(value string) error {
	fail := func(want string) error {
		return fmt.Errorf("%w: %s=%q: want %s", ErrInvalidConfig, d.Name, value, want)
	}
	switch d.Type {
	case TypeInt, TypeLong:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < d.min || n > d.max {
			return fail(fmt.Sprintf("a whole number from %d to %d", d.min, d.max))
		}
	case TypeDouble:
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return fail("a number from 0 to 1")
		}
	case TypeList:
		for _, v := range splitList(value) {
			if d.oneOf != nil && !slices.Contains(d.oneOf, v) {
				return fail("a list of " + strings.Join(d.oneOf, ", "))
			}
		}
		if d.oneOf != nil && len(splitList(value)) == 0 {
			return fail("a list of " + strings.Join(d.oneOf, ", "))
		}
	case TypeBoolean, TypeString:
		if d.oneOf != nil && !slices.Contains(d.oneOf, value) {
			return fail("one of " + strings.Join(d.oneOf, ", "))
		}
	}
	return nil
}

func splitList(v string) []string {
	var out []string
	for e := range strings.SplitSeq(v, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

// number parses a value that check has accepted.
func number(v string) int64 {
	n, _ := strconv.ParseInt(v, 10, 64)
	return n
}

// notZero makes the smallest value of 0, which to a commit log means its default.
func notZero[N int64 | time.Duration](n N) N {
	if n == 0 {
		return 1
	}
	return n
}

func ratio(v string) float64 {
	f, _ := strconv.ParseFloat(v, 64)
	return max(f, math.SmallestNonzeroFloat64)
}

// millis turns milliseconds into a duration; what does not fit is the longest there is (292 years).
func millis(v string) time.Duration {
	n := number(v)
	if n > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Millisecond
}

// limitMillis is millis for a limit, where -1 means none.
func limitMillis(v string) time.Duration {
	if n := number(v); n < 0 {
		return -1
	}
	return notZero(millis(v))
}
