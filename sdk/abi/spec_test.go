package abi

import (
	"encoding/hex"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func specification(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// example returns the bytes of a hex example of SPEC.md.
func example(t *testing.T, name string) []byte {
	t.Helper()
	_, block, ok := strings.Cut(specification(t), "\n```"+name+"\n")
	if !ok {
		t.Fatalf("SPEC.md has no example %s", name)
	}
	block, _, _ = strings.Cut(block, "```")
	b, err := hex.DecodeString(strings.Join(strings.Fields(block), ""))
	if err != nil {
		t.Fatalf("example %s: %v", name, err)
	}
	return b
}

func TestSpecExampleSetup(t *testing.T) {
	want := &Setup{
		Deployment: "d", Inputs: []string{"notes"}, Outputs: []string{"out"},
		Config: map[string]string{"to": "es"}, Assets: map[string][]byte{"a": {0, 0xff}},
	}
	spec := example(t, "setup")
	if got := AppendSetup(nil, want); !reflect.DeepEqual(got, spec) {
		t.Errorf("got  %x\nspec %x", got, spec)
	}
	if got := SetupSize(want); got != len(spec) {
		t.Errorf("SetupSize: got %d, want %d", got, len(spec))
	}
	if got, err := ParseSetup(spec); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSpecExampleBatch(t *testing.T) {
	header := BatchHeader{Count: 1, Partition: 3, Now: 1_700_000_000_000, Seed: 7, Watermark: WatermarkUnknown}
	record := Record{Offset: 42, Timestamp: 1000, Value: []byte("hi"), Headers: AppendHeader(nil, "h", nil), HeaderCount: 1}
	block := make([]byte, BatchHeaderBytes)
	header.Put(block)
	block = AppendRecord(block, &record)
	spec := example(t, "batch")
	if !reflect.DeepEqual(block, spec) {
		t.Errorf("got  %x\nspec %x", block, spec)
	}
	if got, err := ParseBatchHeader(spec); err != nil || got != header {
		t.Errorf("got %+v, %v", got, err)
	}
	var got Record
	size, err := ReadRecord(spec[BatchHeaderBytes:], &got)
	if err != nil || size != record.Size() || !reflect.DeepEqual(got, record) {
		t.Errorf("got %+v of %d bytes, %v", got, size, err)
	}
}

func TestSpecExampleOutputs(t *testing.T) {
	output := Output{Input: 0, Index: 1, Timestamp: 1000, Key: []byte("k"), Headers: []byte{}}
	spec := example(t, "outputs")
	if got := AppendReject(AppendOutput(nil, &output, true), 2, "bad"); !reflect.DeepEqual(got, spec) {
		t.Errorf("got  %x\nspec %x", got, spec)
	}
	outputs, verdicts, err := decode(3, 2, spec)
	if err != nil || !reflect.DeepEqual(outputs, []Output{output}) {
		t.Errorf("got %+v, %v", outputs, err)
	}
	if !reflect.DeepEqual(verdicts, []Verdict{{Input: 2, Reason: []byte("bad")}}) {
		t.Errorf("got %+v", verdicts)
	}
}

// The worked results of section 1: "`high << 32 | low` = decimal".
func TestSpecExampleResults(t *testing.T) {
	found := regexp.MustCompile("`(\\d+) << 32 \\| (\\d+)` = (\\d+)").FindAllStringSubmatch(specification(t), -1)
	if len(found) != 2 {
		t.Fatalf("found %d worked results, want 2", len(found))
	}
	for _, f := range found {
		high, _ := strconv.ParseUint(f[1], 10, 32)
		low, _ := strconv.ParseUint(f[2], 10, 32)
		if got := strconv.FormatUint(high<<32|low, 10); got != f[3] {
			t.Errorf("%s: got %s", f[0], got)
		}
	}
}

// Every name and size that the tables give is the one the constants have.
func TestSpecNamesWhatTheConstantsSay(t *testing.T) {
	text := specification(t)
	for _, name := range []string{
		"`" + ExportAlloc + "`", "`" + ExportSetup + "`", "`" + ExportProcess + "`",
		"Module `" + ImportModule + "`", "`" + ImportLog + "`", "`" + ImportFlush + "`",
		"`" + strconv.Itoa(AreaSetup) + "` setup, `" + strconv.Itoa(AreaInput) + "` input, `" + strconv.Itoa(AreaOutput) + "` output",
		"header of " + strconv.Itoa(BatchHeaderBytes) + " bytes",
		"whole record: " + strconv.Itoa(RecordHeaderBytes) + " +",
		"whole entry: " + strconv.Itoa(OutputHeaderBytes) + " +",
		"| " + strconv.Itoa(SetupHeaderBytes) + " | deployment name |",
		"revision " + strconv.Itoa(Revision) + ".",
	} {
		if !strings.Contains(text, name) {
			t.Errorf("SPEC.md does not say %q", name)
		}
	}
}

// decode checks pieces and returns their outputs and verdicts.
func decode(inputs, outputs int, pieces ...[]byte) ([]Output, []Verdict, error) {
	var c OutputChecker
	c.Reset(inputs, outputs)
	for _, p := range pieces {
		if err := c.Check(p); err != nil {
			return nil, nil, err
		}
	}
	first, second := pieces[0], []byte(nil)
	if len(pieces) > 1 {
		second = pieces[1]
	}
	var it OutputIterator
	it.Reset(first, second, c.Verdicts)
	var all []Output
	size := 0
	for o := (Output{}); it.Next(&o); {
		all = append(all, o)
		size += OutputHeaderBytes + len(o.Key) + len(o.Value) + len(o.Headers)
	}
	if len(all) != c.Count || size != c.SizeBytes {
		panic("the iterator and the checker do not agree")
	}
	return all, c.Verdicts, nil
}
