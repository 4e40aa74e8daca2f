package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/engine"
)

// outcome is what readers of committed records see, by partition.
type outcome struct{ in, out, letters [][]engine.Record }

// check compares what is there at the end with what should be.
func (r *run) check() []string {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	wrong := slices.Clone(r.c.wrong)
	read := func(topic string) (all [][]engine.Record) {
		for _, p := range r.c.topics[topic] {
			records, next := p.committedRecords(0, len(p.entries), false)
			if next < int64(len(p.entries)) {
				wrong = append(wrong, fmt.Sprintf("a transaction of %s is open at the end, from offset %d on", topic, p.stable()))
			}
			all = append(all, records)
		}
		return all
	}
	o := outcome{in: read("in"), out: read("out"), letters: read("d.dlq")}
	for _, p := range r.c.topics["out"] {
		wrong = append(wrong, torn(p)...)
	}
	return slices.Concat(wrong, o.problems(r.Skip), r.leftovers())
}

// leftovers are guests and releases that nobody took care of.
func (r *fleet) leftovers() (wrong []string) {
	for _, p := range r.programs {
		if n := p.Open.Load(); n != 0 {
			wrong = append(wrong, fmt.Sprintf("%d guests are not closed", n))
		}
	}
	if r.retired != r.releases {
		wrong = append(wrong, fmt.Sprintf("%d releases were made, %d retired", r.releases, r.retired))
	}
	return wrong
}

// problems tells what is lost, repeated or out of order.
func (o outcome) problems(skip bool) (wrong []string) {
	expected, letters := o.expected()
	got := map[string][]string{}
	for _, r := range slices.Concat(o.out...) {
		got[string(r.Key)] = append(got[string(r.Key)], string(r.Value))
		if expected[string(r.Key)] == nil {
			expected[string(r.Key)] = []string{}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(expected)) {
		if d := difference(got[key], expected[key]); d != "" {
			wrong = append(wrong, "outputs of key "+key+": "+d)
		}
	}
	if skip {
		letters = map[string]string{}
	}
	return append(wrong, o.checkLetters(letters)...)
}

// once is o without what is there again, which at-least-once delivery allows after a failure.
func (o outcome) once() outcome {
	first := func(all [][]engine.Record, name func(engine.Record) string) [][]engine.Record {
		seen, kept := map[string]bool{}, [][]engine.Record{}
		for _, records := range all {
			kept = append(kept, slices.DeleteFunc(slices.Clone(records), func(r engine.Record) bool {
				again := seen[name(r)]
				seen[name(r)] = true
				return again
			}))
		}
		return kept
	}
	return outcome{
		in: o.in,
		out: first(o.out, func(r engine.Record) string {
			_, id, _ := strings.Cut(string(r.Value), "|")
			return id
		}),
		letters: first(o.letters, func(r engine.Record) string { return string(r.Value) }),
	}
}

// expected lists the outputs by key, without versions, and the dead letters by source.
func (o outcome) expected() (outputs map[string][]string, letters map[string]string) {
	outputs, letters = map[string][]string{}, map[string]string{}
	for i, records := range o.in {
		for _, in := range records {
			id, kind, _ := strings.Cut(string(in.Value), ":")
			n := 1
			switch {
			case poison(kind):
				letters[fmt.Sprintf("%d/%d", i, in.Offset)] = string(in.Value)
				continue
			case kind == "none":
				n = 0
			case kind == "two":
				n = 2
			}
			for j := range n {
				outputs[string(in.Key)] = append(outputs[string(in.Key)], fmt.Sprintf("%s|%d/%d", id, j, n))
			}
		}
	}
	return outputs, letters
}

func difference(got, want []string) string {
	for i, g := range got {
		_, g, _ = strings.Cut(g, "|")
		switch {
		case i >= len(want):
			return fmt.Sprintf("%q is too many, after %d", g, len(want))
		case g != want[i]:
			return fmt.Sprintf("number %d is %q, want %q", i, g, want[i])
		}
	}
	if len(got) < len(want) {
		return fmt.Sprintf("%d are missing, from %q on", len(want)-len(got), want[len(got)])
	}
	return ""
}

// torn finds transactions with outputs of two versions.
func torn(p *partition) (wrong []string) {
	versions := map[*txn]string{}
	for _, e := range p.entries {
		if e.marker || e.txn == nil || e.txn.state != committed {
			continue
		}
		version, rest, _ := strings.Cut(string(e.record.Value), "|")
		if was, ok := versions[e.txn]; ok && was != version {
			wrong = append(wrong, fmt.Sprintf("output %q of %s is in a transaction of %s", rest, version, was))
		}
		versions[e.txn] = version
	}
	return wrong
}

func (o outcome) checkLetters(want map[string]string) (wrong []string) {
	for _, letter := range slices.Concat(o.letters...) {
		source := header(letter, deadletter.HeaderPartition) + "/" + header(letter, deadletter.HeaderOffset)
		if value, ok := want[source]; !ok || value != string(letter.Value) {
			wrong = append(wrong, fmt.Sprintf("dead letter %q of %s is there twice, or should not be", letter.Value, source))
		}
		delete(want, source)
	}
	for source, value := range want {
		wrong = append(wrong, fmt.Sprintf("dead letter %q of %s is missing", value, source))
	}
	return wrong
}

func header(r engine.Record, name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}
