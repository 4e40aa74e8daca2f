package enginetest

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/millstream-io/millstream/runtime/engine"
)

// topicTests are about what an engine does outside groups.
func topicTests() []test {
	return []test{
		{name: "topic/ensure", run: ensureTopic},
		{name: "topic/append and read all", run: appendAndReadAll},
		{name: "topic/follow", run: follow},
		{name: "topic/follow from the start", run: followFromStart},
		{name: "topic/unknown", run: unknownTopic},
		{name: "topic/lag", run: lag},
		{name: "group/set offsets", run: setOffsets},
		{name: "group/offsets at a start", run: offsetsAt},
		{name: "group/members", run: groupMembers},
	}
}

// tick is a moment, for what can only be asked again and again.
func tick() <-chan time.Time { return time.After(5 * time.Millisecond) }

func ensureTopic(e *env) {
	e.topic("t", 3)
	e.topic("t", 5) // it exists: nothing changes
	found, err := e.Engine.Topics(e.ctx, []string{"t", "nothing"})
	e.must(err)
	if want := map[string]int{"t": 3}; !maps.Equal(found, want) {
		e.Errorf("topics are %v, want %v", found, want)
	}
	for _, name := range []string{"", "..", "a b"} {
		if err := e.Engine.EnsureTopic(e.ctx, name, 1, nil); err == nil {
			e.Errorf("a topic %q was created", name)
		}
	}
}

func appendAndReadAll(e *env) {
	e.topic("t", 4)
	var records []engine.Record
	for i := range 20 {
		records = append(records, engine.Record{Timestamp: int64(i + 1), Key: fmt.Append(nil, "k", i%5), Value: fmt.Append(nil, i),
			Headers: []engine.Header{{Name: "n", Value: fmt.Append(nil, i)}}})
	}
	e.must(e.Engine.Append(e.ctx, "t", records))
	e.must(e.Engine.Append(e.ctx, "t", nil))
	got := map[string]string{}
	partitionOf := map[string]int32{}
	count := 0
	ends, err := e.Engine.ReadAll(e.ctx, "t", nil, func(p int32, r engine.Record) error {
		if was, ok := partitionOf[string(r.Key)]; ok && was != p {
			e.Errorf("key %s is in partitions %d and %d", r.Key, was, p)
		}
		partitionOf[string(r.Key)] = p
		got[string(r.Key)] += string(r.Value) + string(r.Headers[0].Value) + " "
		count++
		return nil
	})
	e.must(err)
	if want := "00 55 1010 1515 "; got["k0"] != want || count != 20 {
		e.Errorf("%d records, k0 is %q, want %q", count, got["k0"], want)
	}
	total := int64(0)
	for _, end := range ends {
		total += end
	}
	if len(ends) != 4 || total != 20 {
		e.Errorf("ends are %v", ends)
	}
	stop := errors.New("stop")
	if _, err := e.Engine.ReadAll(e.ctx, "t", nil, func(int32, engine.Record) error { return stop }); !errors.Is(err, stop) {
		e.Errorf("ReadAll hides its caller's error: %v", err)
	}
}

// follow: what ReadAll returns is exactly where Follow goes on.
func follow(e *env) {
	e.topic("t", 2)
	appendValue := func(v string) {
		e.must(e.Engine.Append(e.ctx, "t", []engine.Record{{Timestamp: 1, Value: []byte(v)}}))
	}
	appendValue("a")
	appendValue("b")
	from, err := e.Engine.ReadAll(e.ctx, "t", nil, func(int32, engine.Record) error { return nil })
	e.must(err)
	appendValue("c") // between the two
	got := map[string]int{}
	enough := errors.New("enough")
	wait := background(func() (struct{}, error) {
		return struct{}{}, e.Engine.Follow(e.ctx, "t", from, func(_ int32, r engine.Record) error {
			got[string(r.Value)]++
			if len(got) == 4 {
				return enough
			}
			return nil
		})
	})
	for _, v := range []string{"d", "e", "f"} {
		appendValue(v)
	}
	if _, err := wait(); !errors.Is(err, enough) {
		e.Errorf("Follow ended with %v", err)
	}
	if want := map[string]int{"c": 1, "d": 1, "e": 1, "f": 1}; !maps.Equal(got, want) {
		e.Errorf("followed %v, want %v", got, want)
	}
}

func followFromStart(e *env) {
	e.topic("t", 1)
	e.must(e.Engine.Append(e.ctx, "t", numbered("v", 0, 3)))
	ctx, cancel := contextWithCancel(e)
	var got []string
	err := e.Engine.Follow(ctx, "t", nil, func(_ int32, r engine.Record) error {
		got = append(got, string(r.Value))
		if len(got) == 3 {
			cancel()
		}
		return nil
	})
	if err == nil {
		e.Error("Follow ended without an error")
	}
	e.wantValues(got, valuesOf("v", 0, 3)...)
}

func unknownTopic(e *env) {
	none := func(int32, engine.Record) error { return nil }
	_, err := e.Engine.ReadAll(e.ctx, "nothing", nil, none)
	for name, err := range map[string]error{
		"ReadAll": err,
		"Follow":  e.Engine.Follow(e.ctx, "nothing", nil, none),
		"Append":  e.Engine.Append(e.ctx, "nothing", numbered("v", 0, 1)),
	} {
		if !errors.Is(err, engine.ErrUnknownTopic) {
			e.Errorf("%s: %v", name, err)
		}
	}
}

func lag(e *env) {
	e.topic("in", 2)
	e.topic("out", 1)
	e.Produce(e, "in", 1, "none", numbered("v", 0, 5))
	before, err := e.Engine.Lag(e.ctx, "g", []string{"in", "nothing"})
	e.must(err)
	one := engine.TopicPartition{Topic: "in", Partition: 1}
	if want := (engine.Position{Committed: -1, LogEnd: 5}); len(before) != 2 || before[one] != want {
		e.Errorf("lag is %v, want %v for %v", before, want, one)
	}
	for _, s := range e.sessions(e.join(e.group()), 2) {
		e.commit(s, int64(s.Partition().Partition)*4)
		e.must(s.Close(e.ctx))
	}
	after, err := e.Engine.Lag(e.ctx, "g", []string{"in"})
	e.must(err)
	if want := (engine.Position{Committed: 4, LogEnd: 5}); after[one] != want {
		e.Errorf("lag is %v, want %v", after[one], want)
	}
}
