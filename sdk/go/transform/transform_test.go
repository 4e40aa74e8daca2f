package transform_test

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

func value(s string) transform.Record { return transform.Record{Value: []byte(s)} }

func emit(c *transform.Context, r transform.Record) error {
	c.Emit(r)
	return nil
}

func TestRecordsPassUnchanged(t *testing.T) {
	records := []transform.Record{
		{Key: []byte("k"), Value: []byte("v"), Timestamp: 1000, Headers: transform.NewHeaders("a", "1", "a", "2")},
		{Timestamp: 2000},
		{Key: []byte{}, Value: []byte{}, Timestamp: -1},
	}
	got := transformtest.Run(t, transformtest.Options{OnRecord: emit}, records...)
	if len(got.Outputs) != len(records) {
		t.Fatalf("got %d outputs", len(got.Outputs))
	}
	for i, want := range records {
		r := got.Outputs[i].Record
		if (r.Key == nil) != (want.Key == nil) || (r.Value == nil) != (want.Value == nil) {
			t.Errorf("record %d: null and empty are confused: %+v", i, r)
		}
		if !bytes.Equal(r.Key, want.Key) || !bytes.Equal(r.Value, want.Value) || r.Timestamp != want.Timestamp {
			t.Errorf("record %d: got %+v, want %+v", i, r, want)
		}
		if !reflect.DeepEqual(headers(r), headers(want)) {
			t.Errorf("record %d: got headers %q, want %q", i, headers(r), headers(want))
		}
	}
}

func headers(r transform.Record) []string {
	var all []string
	i := r.Headers.Iterate()
	for name, value := range r.Headers.All() {
		if !i.Next() || i.Name != name || !bytes.Equal(i.Value, value) || (i.Value == nil) != (value == nil) {
			panic("All and Iterate do not agree")
		}
		if value == nil {
			value = []byte("<null>")
		}
		all = append(all, name+"="+string(value))
	}
	return all
}

func TestEventTimeIsKeptUnlessSet(t *testing.T) {
	got := transformtest.Run(t, transformtest.Options{
		OnRecord: func(c *transform.Context, r transform.Record) error {
			c.Emit(transform.Record{Value: []byte("kept")})
			c.Emit(transform.Record{Value: []byte("set"), Timestamp: 7})
			return nil
		},
	}, transform.Record{Timestamp: 500})
	if got.Outputs[0].Record.Timestamp != 500 || got.Outputs[1].Record.Timestamp != 7 {
		t.Errorf("got %+v", got.Outputs)
	}
}

// A record without an event time (-1, as Kafka has it) passes unchanged, however full the output area is.
func TestNegativeEventTimeOfAnInputIsNoFault(t *testing.T) {
	for _, area := range []int{64 << 10, 150, 64} {
		got := transformtest.Run(t, transformtest.Options{
			OutputAreaBytes: area,
			OnRecord: func(c *transform.Context, r transform.Record) error {
				c.Emit(r)
				c.Emit(r)
				return nil
			},
		}, transform.Record{Timestamp: -1, Value: make([]byte, 100)})
		if len(got.Outputs) != 2 || len(got.Rejects) != 0 || got.Outputs[1].Record.Timestamp != -1 {
			t.Errorf("area of %d bytes: got %+v", area, got)
		}
	}
}

func TestRejectsDropWhatWasEmitted(t *testing.T) {
	// An area of 100 bytes is flushed after two entries: rejects must reach back.
	for _, areaBytes := range []int{100, 40, 1, 64 << 10} {
		t.Run(strconv.Itoa(areaBytes), func(t *testing.T) {
			got := transformtest.Run(t, transformtest.Options{
				OutputAreaBytes: areaBytes,
				OnRecord: func(c *transform.Context, r transform.Record) error {
					for _, word := range strings.Fields(string(r.Value)) {
						c.Emit(value(word))
						if word == "stop" {
							c.Reject("stopped")
						}
					}
					if strings.HasPrefix(string(r.Value), "bad") {
						return errors.New("bad")
					}
					return nil
				},
			}, value("a b c d"), value("e f stop g h"), value("i"), value("bad j k"), value("bad stop"), value("l"))
			if want := []string{"a", "b", "c", "d", "i", "l"}; !reflect.DeepEqual(got.Values("out"), want) {
				t.Errorf("got %q, want %q", got.Values("out"), want)
			}
			want := []transformtest.Reject{{Input: 1, Reason: "stopped"}, {Input: 3, Reason: "bad"}, {Input: 4, Reason: "bad"}}
			if !reflect.DeepEqual(got.Rejects, want) {
				t.Errorf("got %v, want %v", got.Rejects, want)
			}
		})
	}
}

func TestRecordsThatCannotBeWrittenAreRejected(t *testing.T) {
	emitTo := func(f func(c *transform.Context)) func(*transform.Context, transform.Record) error {
		return func(c *transform.Context, _ transform.Record) error { f(c); return nil }
	}
	tests := []struct {
		name string
		f    func(c *transform.Context)
		want string
	}{
		{"name", func(c *transform.Context) { c.EmitNamed("de", value("")) }, "output de is not bound to a topic; bound are: es, fr"},
		{"handle", func(c *transform.Context) { c.EmitTo(2, value("")) }, "it has: es, fr"},
		{"event time", func(c *transform.Context) { c.Emit(transform.Record{Timestamp: -5}) }, "before 1970"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := transformtest.Run(t, transformtest.Options{Outputs: []string{"es", "fr"}, OnRecord: emitTo(tt.f)}, value("in"))
			if len(got.Outputs) != 0 || len(got.Rejects) != 1 || !strings.Contains(got.Rejects[0].Reason, tt.want) {
				t.Errorf("got %+v, want a reject that says %q", got, tt.want)
			}
		})
	}
}

func TestContextTellsWhereARecordIsFrom(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	got := transformtest.Run(t, transformtest.Options{
		Deployment: "d", Inputs: []string{"a", "b"}, Input: 1, Partition: 4, Now: now,
		Config: map[string]string{"k": "v", "empty": ""},
		OnSetup: func(s *transform.Setup) error {
			s.Log(transform.LevelWarn, s.Deployment()+" "+s.ConfigOr("k", "no")+s.ConfigOr("empty", "no")+s.ConfigOr("other", "yes"))
			return nil
		},
		OnRecord: func(c *transform.Context, r transform.Record) error {
			if !c.Now().Equal(now) || c.Topic() != "b" || c.Partition() != 4 || c.Config("k") != "v" {
				t.Errorf("got %s, %s, %d, %s", c.Now(), c.Topic(), c.Partition(), c.Config("k"))
			}
			if _, ok := c.LookupConfig("other"); ok {
				t.Error("found a config value that is not set")
			}
			c.Log(transform.LevelDebug, "at "+r.Time().Format(time.TimeOnly))
			return nil
		},
	}, transform.Record{Timestamp: 3_600_000})
	want := []transformtest.Line{{Level: transform.LevelWarn, Text: "d vyes"}, {Level: transform.LevelDebug, Text: "at 01:00:00"}}
	if !reflect.DeepEqual(got.Log, want) {
		t.Errorf("got %v, want %v", got.Log, want)
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	for name, f := range map[string]func(s *transform.Setup) error{
		"n": func(s *transform.Setup) error { _, err := s.ConfigInt("n", 1); return err },
		"b": func(s *transform.Setup) error { _, err := s.ConfigBool("b", true); return err },
	} {
		_, err := transformtest.Start(transformtest.Options{OnRecord: emit, OnSetup: f, Config: map[string]string{name: "x"}})
		if err == nil || !strings.Contains(err.Error(), "config "+name+"=x") {
			t.Errorf("got %v", err)
		}
		if _, err := transformtest.Start(transformtest.Options{OnRecord: emit, OnSetup: f}); err != nil {
			t.Errorf("without a value: got %v", err)
		}
	}
}

func TestHeaders(t *testing.T) {
	// A copy of the headers changes alone, in a record and outside of one.
	change := func(original transform.Headers) {
		first, second := original, original
		first.Add("first", nil)
		second.Set("a", []byte("9"))
		first.Add("more", []byte{})
		second.Delete("b")
		third := first
		third.Add("third", []byte("3"))
		first.Add("last", []byte("l"))
		for _, tt := range []struct {
			name string
			h    transform.Headers
			want []string
		}{
			{"original", original, []string{"a=1", "b=2", "a=3"}},
			{"first", first, []string{"a=1", "b=2", "a=3", "first=<null>", "more=", "last=l"}},
			{"second", second, []string{"a=9"}},
			{"third", third, []string{"a=1", "b=2", "a=3", "first=<null>", "more=", "third=3"}},
		} {
			if got := headers(transform.Record{Headers: tt.h}); !reflect.DeepEqual(got, tt.want) || tt.h.Len() != len(tt.want) {
				t.Errorf("%s: got %q of %d, want %q", tt.name, got, tt.h.Len(), tt.want)
			}
		}
		if v, ok := first.Get("a"); !ok || string(v) != "3" {
			t.Errorf("Get returns %q, want the last", v)
		}
		if v, ok := first.Get("first"); !ok || v != nil {
			t.Errorf("Get returns %q, %t for a null header", v, ok)
		}
		if _, ok := first.Get("none"); ok {
			t.Error("Get finds a header that is not there")
		}
	}
	original := transform.NewHeaders("a", "1", "b", "2", "a", "3")
	change(original)
	transformtest.Run(t, transformtest.Options{
		OnRecord: func(_ *transform.Context, r transform.Record) error { change(r.Headers); return nil },
	}, transform.Record{Headers: original}, transform.Record{Headers: original})
}

func TestInputsCountOnOverBatches(t *testing.T) {
	runner, err := transformtest.Start(transformtest.Options{OnRecord: emit})
	if err != nil {
		t.Fatal(err)
	}
	runner.Process(value("a"), value("b"))
	if got := runner.Process(value("c")); len(got.Outputs) != 1 || got.Outputs[0].Input != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestTransformWithoutOnRecordIsRefused(t *testing.T) {
	if _, err := transformtest.Start(transformtest.Options{}); err == nil || !strings.Contains(err.Error(), "OnRecord") {
		t.Errorf("got error %v, want one that names OnRecord", err)
	}
}
