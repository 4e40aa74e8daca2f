package wire

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// randomRequest fills a request of the key and version with small random values.
func randomRequest(rng *rand.Rand, key, version int16) kmsg.Request {
	r := kmsg.RequestForKey(key)
	fill(rng, reflect.ValueOf(r).Elem())
	r.SetVersion(version)
	return r
}

func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "UnknownTags" {
				fill(rng, f)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(make([]byte, rng.IntN(50)))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.String:
		v.SetString(strings.Repeat("x", rng.IntN(20)))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.IntN(100)))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	}
}

func eachVersion(f func(key, version int16, name string)) {
	for _, form := range guardForms {
		r := kmsg.RequestForKey(form.key)
		name := strings.TrimSuffix(reflect.TypeOf(r).Elem().Name(), "Request")
		for version := range r.MaxVersion() + 1 {
			f(form.key, version, name)
		}
	}
}

func TestGuardAcceptsWhatClientsEncode(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	eachVersion(func(key, version int16, name string) {
		for range 100 {
			body := randomRequest(rng, key, version).AppendTo(nil)
			if err := guard(key, version, body); err != nil {
				t.Fatalf("%s v%d: %v\n% x", name, version, err, body)
			}
			// The walk must end where the request does, or the form is not the request's.
			if len(body) > 0 && guard(key, version, body[:len(body)-1]) == nil {
				t.Fatalf("%s v%d: accepted without its last byte\n% x", name, version, body)
			}
		}
	})
}

func TestGuardKnowsTheFormOfEveryVersion(t *testing.T) {
	for _, form := range guardForms {
		r := kmsg.RequestForKey(form.key)
		r.SetVersion(max(form.flexibleFrom, 0))
		if form.flexibleFrom >= 0 != r.IsFlexible() {
			t.Errorf("key %d: flexible from %d", form.key, form.flexibleFrom)
		}
		if form.flexibleFrom > 0 {
			r.SetVersion(form.flexibleFrom - 1)
			if r.IsFlexible() {
				t.Errorf("key %d: flexible before %d", form.key, form.flexibleFrom)
			}
		}
	}
}

// TestGuardElementSizes compares the sizes of decoded array elements with kmsg's types.
func TestGuardElementSizes(t *testing.T) {
	for _, entry := range guardForms {
		var want []int
		elementSizes(reflect.TypeOf(kmsg.RequestForKey(entry.key)).Elem(), &want)
		var got []int
		formSizes(forms()[entry.key].fields, &got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("key %d: sizes %v, kmsg has %v", entry.key, got, want)
		}
	}
}

func elementSizes(t reflect.Type, sizes *[]int) {
	for i := range t.NumField() {
		f := t.Field(i).Type
		if f.Kind() != reflect.Slice || f.Elem().Kind() == reflect.Uint8 {
			continue
		}
		*sizes = append(*sizes, int(f.Elem().Size()))
		if f.Elem().Kind() == reflect.Struct {
			elementSizes(f.Elem(), sizes)
		}
	}
}

func formSizes(fields []field, sizes *[]int) {
	for _, f := range fields {
		if f.kind == arrayField {
			*sizes = append(*sizes, f.size)
			formSizes(f.fields, sizes)
		}
	}
}

func TestGuardRefuses(t *testing.T) {
	many := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	tests := []struct {
		name         string
		key, version int16
		body         []byte
		want         string
	}{
		{"ApiVersions of 7 bytes, which loops over 2^32 tags", 18, 3, append([]byte{1, 1}, many...), "more tags"},
		{"Metadata of 8 bytes, which loops over tags", 3, 12, append([]byte{1, 1, 1}, many...), "more tags"},
		{"ApiVersions of 5 KiB", 18, 3, make([]byte, 5<<10), "at most 4096"},
		{"tags behind an array", 3, 12, []byte{1, 0, 0, 0x7f, 1, 1}, "more tags"},
		{"topics that cannot be there", 3, 0, []byte{0, 0, 0, 100, 0, 1}, "more elements"},
		{"negative length", 3, 0, []byte{0xff, 0xff, 0xff, 0xfe}, "negative"},
		{"negative string", 17, 0, []byte{0x80, 0}, "negative"},
		{"string behind the end", 17, 0, []byte{0, 9, 'P'}, "behind the end"},
		{"varint without an end", 18, 3, []byte{0xff, 0xff}, "cut short"},
		{"varint of six bytes", 18, 3, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 1}, "too long"},
		{"nothing", 0, 9, nil, "cut short"},
		{"unknown key", 4, 0, nil, "no known form"},
		{"negative key", -1, 0, nil, "no known form"},
		// An empty name takes two bytes and 16 once decoded; with the string's own memory, 40.
		{"groups of nothing", 42, 0, append([]byte{0, 0, 0x40, 0}, make([]byte, 0x8000)...), "too much memory"},
	}
	for _, test := range tests {
		if err := guard(test.key, test.version, test.body); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// decode decodes what the guard accepts and returns the bytes that took.
func decode(key, version int16, body []byte) uint64 {
	r := kmsg.RequestForKey(key)
	r.SetVersion(version)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_ = r.ReadFrom(body)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// mostDecoded is what decoding may allocate: the guard's measure, and a quarter for
// the allocator's size classes.
func mostDecoded(body []byte) uint64 {
	return uint64(len(body)*decodedPerByte+decodedSlack) * 5 / 4
}

func TestWhatTheGuardAcceptsDecodesInBoundedMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	eachVersion(func(key, version int16, name string) {
		for range 20 {
			body := randomRequest(rng, key, version).AppendTo(nil)
			for range 1 + rng.IntN(3) {
				if len(body) > 0 {
					body[rng.IntN(len(body))] = byte(rng.Uint32())
				}
			}
			// A tail for claimed lengths to run into.
			body = append(body, make([]byte, rng.IntN(3000))...)
			if guard(key, version, body) != nil {
				continue
			}
			if used := decode(key, version, body); used > mostDecoded(body) {
				t.Fatalf("%s v%d: %d bytes took %d to decode", name, version, len(body), used)
			}
		}
	})
}

func TestGuardAllocatesNothing(t *testing.T) {
	body := randomRequest(rand.New(rand.NewPCG(3, 3)), 0, 9).AppendTo(nil)
	if n := testing.AllocsPerRun(100, func() { _ = guard(0, 9, body) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzGuard(f *testing.F) {
	rng := rand.New(rand.NewPCG(4, 4))
	eachVersion(func(key, version int16, _ string) {
		f.Add(key, version, randomRequest(rng, key, version).AppendTo(nil))
	})
	f.Add(int16(18), int16(3), []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		r := kmsg.RequestForKey(key)
		if r == nil || version < 0 || version > r.MaxVersion() || guard(key, version, body) != nil {
			return
		}
		if used := decode(key, version, body); used > mostDecoded(body)+1<<20 { // other goroutines of the fuzzer allocate too
			t.Fatalf("%d bytes took %d to decode", len(body), used)
		}
	})
}

// BenchmarkUntrusted guards and decodes what clients send and what they had better
// not: bodies of every request and version, whole, damaged and with a tail for
// claimed lengths to run into. The worst of them has to stay below 1 ms for a KiB.
func BenchmarkUntrusted(b *testing.B) {
	type sent struct {
		key, version int16
		body         []byte
	}
	var all []sent
	rng := rand.New(rand.NewPCG(5, 5))
	eachVersion(func(key, version int16, _ string) {
		for range 10 {
			body := randomRequest(rng, key, version).AppendTo(nil)
			for range rng.IntN(3) {
				if len(body) > 0 {
					body[rng.IntN(len(body))] = byte(rng.Uint32())
				}
			}
			all = append(all, sent{key, version, append(body, make([]byte, rng.IntN(5000))...)})
		}
	})
	fastest := make([]time.Duration, len(all)) // of each, in all rounds: what the machine did beside does not count
	var kib float64
	for b.Loop() {
		kib = 0
		for i, s := range all {
			start := time.Now()
			if guard(s.key, s.version, s.body) == nil {
				r := kmsg.RequestForKey(s.key)
				r.SetVersion(s.version)
				_ = r.ReadFrom(s.body)
			}
			if took := time.Since(start); fastest[i] == 0 || took < fastest[i] {
				fastest[i] = took
			}
			kib += float64(len(s.body)) / 1024
		}
	}
	worst := 0.0
	for i, s := range all {
		worst = max(worst, float64(fastest[i])/max(1, float64(len(s.body))/1024))
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/kib, "ns/KiB")
	b.ReportMetric(worst, "worst-ns/KiB")
}

func BenchmarkGuard(b *testing.B) {
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(9)
	for range 10 {
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic = "a-topic-of-some-length"
		for p := range int32(10) {
			partition := kmsg.NewProduceRequestTopicPartition()
			partition.Partition, partition.Records = p, make([]byte, 1000)
			topic.Partitions = append(topic.Partitions, partition)
		}
		r.Topics = append(r.Topics, topic)
	}
	body := r.AppendTo(nil)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := guard(0, 9, body); err != nil {
			b.Fatal(err)
		}
	}
}
