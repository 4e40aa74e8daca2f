package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/runtime/deadletter"
	"github.com/millstream-io/millstream/runtime/engine"
)

// check compares what readers of committed records see with what should be there.
func (r *run) check() []string {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	wrong := slices.Clone(r.c.wrong)
	expected, letters := r.expected()
	got := map[string][]string{}
	for _, p := range r.c.topics["out"] {
		records, next := p.committedRecords(0, len(p.entries), false)
		if next < int64(len(p.entries)) {
			wrong = append(wrong, fmt.Sprintf("a transaction of out is open at the end, from offset %d on", p.stable()))
		}
		for _, o := range records {
			got[string(o.Key)] = append(got[string(o.Key)], string(o.Value))
		}
		wrong = append(wrong, torn(p)...)
	}
	for k := range r.Keys {
		key := fmt.Sprintf("k%d", k)
		if d := difference(got[key], expected[key]); d != "" {
			wrong = append(wrong, "outputs of key "+key+": "+d)
		}
	}
	return append(wrong, r.checkLetters(letters)...)
}

// expected lists the outputs by key, without versions, and the dead letters by source.
func (r *run) expected() (outputs map[string][]string, letters map[string]string) {
	outputs, letters = map[string][]string{}, map[string]string{}
	for i, p := range r.c.topics["in"] {
		records, _ := p.committedRecords(0, len(p.entries), false)
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
	if r.Skip {
		letters = map[string]string{}
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

func (r *run) checkLetters(want map[string]string) (wrong []string) {
	for _, p := range r.c.topics["d.dlq"] {
		records, _ := p.committedRecords(0, len(p.entries), false)
		for _, letter := range records {
			source := header(letter, deadletter.HeaderPartition) + "/" + header(letter, deadletter.HeaderOffset)
			if value, ok := want[source]; !ok || value != string(letter.Value) {
				wrong = append(wrong, fmt.Sprintf("dead letter %q of %s is there twice, or should not be", letter.Value, source))
			}
			delete(want, source)
		}
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
