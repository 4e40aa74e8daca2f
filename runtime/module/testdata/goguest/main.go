// Command goguest is a guest of standard Go and TinyGo for comparing plain and
// metered code: maps, strings, sorting, floats, JSON, growing memory.
package main

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
)

func main() {}

type event struct {
	Name  string   `json:"name"`
	Count uint32   `json:"count"`
	Tags  []string `json:"tags"`
}

//go:wasmexport parse
func parse(n uint32) uint32 {
	e := event{Name: strings.Repeat("ab", int(n%50)), Count: n, Tags: []string{"x", strconv.Itoa(int(n))}}
	text, err := json.Marshal(e)
	if err != nil {
		return 1
	}
	var back event
	if err := json.Unmarshal(text, &back); err != nil {
		return 2
	}
	return back.Count + uint32(len(back.Name)+len(back.Tags[1]))
}

//go:wasmexport words
func words(n uint32) uint32 {
	counts := map[string]int{}
	for i := range n % 2000 {
		counts[strconv.Itoa(int(i*i%97))]++
	}
	keys := make([]string, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return uint32(len(strings.Join(keys, ",")))
}

//go:wasmexport floats
func floats(x float64, n uint32) float64 {
	for range n % 1000 {
		x = x*1.0001 + 1/(x+2)
	}
	return x
}

//go:wasmexport recurse
func recurse(n uint32) uint32 {
	if n%200 == 0 {
		return 0
	}
	return 1 + recurse(n%200-1)
}

var kept [][]byte

//go:wasmexport allocate
func allocate(n uint32) uint32 {
	for range n % 20 {
		kept = append(kept, make([]byte, 10_000))
	}
	if len(kept) > 100 {
		kept = nil
	}
	return uint32(len(kept))
}
