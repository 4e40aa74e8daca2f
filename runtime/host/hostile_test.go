package host_test

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millstream-io/millstream/runtime/host"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/runtime/module/wasmtest/hostile"
	"github.com/millstream-io/millstream/sdk/abi"
)

const (
	outputArea = (abi.AreaOutput + 1) * wasmtest.AreaBytes
	inputArea  = (abi.AreaInput + 1) * wasmtest.AreaBytes
)

func code() wasmtest.Code { return wasmtest.Code{} }

func unreachable() wasmtest.Code { return code().Op(wasmtest.Unreachable) }

// answer is a body for Process: records<<32 | size.
func answer(records, size int32) wasmtest.Code {
	return code().I64Const(int64(records)<<32 | int64(uint32(size)))
}

// withData is a guest with p at address before it starts.
func withData(g wasmtest.Guest, address int32, p []byte) wasmtest.Guest {
	prepare := g.Prepare
	g.Prepare = func(b *wasmtest.Builder) {
		b.Data(address, p)
		if prepare != nil {
			prepare(b)
		}
	}
	return g
}

// process runs n small records through the guest, in small fuel and time limits.
func process(t *testing.T, g wasmtest.Guest, n int) ([]output, host.Result, error) {
	t.Helper()
	limits := host.Limits{FuelPerCall: 20_000_000, MemoryBytes: 16 << 20, WallTime: 10 * time.Second}
	i, err := instantiate(t, g.Bytes(), limits, oneOutput("identity"), nil)
	if err != nil {
		t.Fatal(err)
	}
	records := make([]abi.Record, n)
	for k := range records {
		records[k] = abi.Record{Offset: int64(k), Timestamp: int64(100 + k), Value: []byte("value")}
	}
	outputs, result, err := run(t.Context(), i, host.Batch{}, records...)
	if err != nil {
		if _, again := i.Process(t.Context(), host.Batch{Count: 1}); again == nil || errors.As(again, new(*host.Trap)) {
			t.Errorf("a stopped instance can be called again: %v", again)
		}
	}
	return outputs, result, err
}

func record(input int) []byte {
	return abi.AppendOutput(nil, &abi.Output{Input: input, Value: []byte("v")}, false)
}

// edit returns entry with v at at.
func edit[V uint8 | uint16 | uint32 | uint64 | int64](entry []byte, at int, v V) []byte {
	entry = append([]byte(nil), entry...)
	if _, err := binary.Encode(entry[at:], binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return entry
}

func join(entries ...[]byte) []byte {
	var all []byte
	for _, e := range entries {
		all = append(all, e...)
	}
	return all
}

func TestBadOutputsAreRefused(t *testing.T) {
	reject := abi.AppendReject(nil, 1, "no")
	withHeader := abi.AppendOutput(nil, &abi.Output{Headers: abi.AppendHeader(nil, "name", []byte("value")), HeaderCount: 1}, false)
	const headerAt = abi.OutputHeaderBytes
	tests := []struct {
		name    string
		entries []byte
		want    string
	}{
		{"input index beyond the batch", record(2), "input index 2 of a batch of 2"},
		{"input index of 4 billion", edit(record(0), 8, ^uint32(0)), "input index"},
		{"descending", join(record(1), record(0)), "must ascend"},
		{"output index", edit(record(0), 6, uint16(1)), "output index 1"},
		{"kind", edit(record(0), 4, uint8(7)), "kind 7"},
		{"flags", edit(record(0), 5, uint8(0x82)), "unknown flags"},
		{"timestamp", edit(edit(record(0), 5, uint8(1)), 24, int64(-5)), "before 1970"},
		{"size of zero", edit(record(0), 0, uint32(0)), "says it has 0 bytes"},
		{"size beyond the end", edit(record(0), 0, uint32(1000)), "says it has 1000 bytes"},
		{"size of 4 GiB", edit(record(0), 0, ^uint32(0)), "says it has 4294967295 bytes"},
		{"truncated header", record(0)[:20], "20 bytes are left"},
		{"trailing byte", append(record(0), 0), "1 bytes are left"},
		{"key too long", edit(record(0), 12, uint32(100)), "key of 100"},
		{"key length of -2", edit(record(0), 12, ^uint32(1)), "key of -2"},
		{"value length of 2 GiB", edit(record(0), 16, uint32(1<<31-1)), "value of 2147483647"},
		{"lengths that wrap around", edit(edit(record(0), 12, uint32(1<<31-1)), 16, uint32(1<<31-1)), "key of"},
		{"value shorter than the entry", edit(record(0), 16, uint32(0)), "1 bytes behind 0 headers"},
		{"header count", edit(withHeader, 20, uint32(2)), "header 1 of 2"},
		{"header count of 4 billion", edit(withHeader, 20, ^uint32(0)), "header 1 of 4294967295"},
		{"header name too long", edit(withHeader, headerAt, uint32(1<<31)), "header 0 of 1"},
		{"header value of -2", edit(withHeader, headerAt+4, ^uint32(1)), "header 0 of 1"},
		{"output behind its reject", join(reject, record(1)), "behind its reject"},
		{"two rejects", join(reject, reject), "behind its reject"},
		{"reject with a key", edit(reject, 12, uint32(0)), "more than a reason"},
		{"reject without a reason", edit(reject, 16, ^uint32(0)), "reason of -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := withData(wasmtest.Guest{Process: answer(2, int32(len(tt.entries)))}, outputArea, tt.entries)
			_, _, err := process(t, g, 2)
			if trap := trapOf(t, err, host.TrapProtocol); !strings.Contains(trap.Detail, tt.want) {
				t.Errorf("got %q, want it to say %q", trap.Detail, tt.want)
			}

			flushed := withData(wasmtest.Guest{
				Process: code().I32Const(100).I32Const(int32(len(tt.entries))).Call(wasmtest.FlushImport).Append(answer(2, 0)),
			}, 100, tt.entries)
			_, _, err = process(t, flushed, 2)
			if trap := trapOf(t, err, host.TrapProtocol); !strings.Contains(trap.Detail, tt.want) {
				t.Errorf("flushed: got %q, want it to say %q", trap.Detail, tt.want)
			}
		})
	}
}

func TestGuestsThatBreakTheABI(t *testing.T) {
	alloc := func(address int32) wasmtest.Code { return code().I32Const(address) }
	tests := []struct {
		name  string
		guest wasmtest.Guest
		kind  host.TrapKind
		want  string
	}{
		{"too few records", wasmtest.Guest{Process: answer(1, 0)}, host.TrapProtocol, "handled 1 records of a batch of 2"},
		{"too many records", wasmtest.Guest{Process: answer(-1, 0)}, host.TrapProtocol, "handled"},
		{"output beyond its area", wasmtest.Guest{Process: answer(2, 1<<20+1)}, host.TrapProtocol, "bytes of output in an area"},
		{"output of 4 GiB", wasmtest.Guest{Process: answer(2, -1)}, host.TrapProtocol, "bytes of output in an area"},
		{"alloc outside of memory", wasmtest.Guest{Alloc: alloc(1 << 30)}, host.TrapProtocol, "outside of memory"},
		{"alloc at the end of the address space", wasmtest.Guest{Alloc: alloc(-8)}, host.TrapProtocol, "outside of memory"},
		{"alloc not aligned", wasmtest.Guest{Alloc: alloc(1<<20 + 4)}, host.TrapProtocol, "not aligned"},
		{"areas overlap", wasmtest.Guest{Alloc: alloc(1 << 20)}, host.TrapProtocol, "overlaps"},
		{"alloc refuses", wasmtest.Guest{Alloc: alloc(0)}, host.TrapMemory, "no area of memory"},
		{"flush outside of memory", wasmtest.Guest{
			Process: code().I32Const(-100).I32Const(200).Call(wasmtest.FlushImport).Append(answer(2, 0)),
		}, host.TrapProtocol, "outside of memory"},
		{"log outside of memory", wasmtest.Guest{
			Process: code().I32Const(1).I32Const(-1).I32Const(-1).Call(wasmtest.LogImport).Append(answer(2, 0)),
		}, host.TrapProtocol, "outside of memory"},
		{"flush in setup", wasmtest.Guest{
			Setup: code().I32Const(0).I32Const(0).Call(wasmtest.FlushImport).I64Const(0),
		}, host.TrapProtocol, "flush outside of"},
		{"flush in _initialize", wasmtest.Guest{
			Initialize: code().I32Const(0).I32Const(0).Call(wasmtest.FlushImport),
		}, host.TrapProtocol, "flush outside of"},
		{"message of setup outside of memory", wasmtest.Guest{Setup: answer(-100, 200)}, host.TrapProtocol, "outside of memory"},
		{"trap in _initialize", wasmtest.Guest{Initialize: unreachable()}, host.TrapFault, "unreachable"},
		{"trap in alloc", wasmtest.Guest{Alloc: unreachable()}, host.TrapFault, "unreachable"},
		{"trap in setup", wasmtest.Guest{Setup: unreachable()}, host.TrapFault, "unreachable"},
		{"trap in process", wasmtest.Guest{Process: unreachable()}, host.TrapFault, "unreachable"},
		{"load out of bounds", wasmtest.Guest{
			Process: code().I32Const(-4).Mem(wasmtest.I32Load, 0).Drop().Append(answer(2, 0)),
		}, host.TrapFault, "out of bounds"},
		{"divide by zero", wasmtest.Guest{
			Process: code().I32Const(1).I32Const(0).Op(wasmtest.I32DivS).Drop().Append(answer(2, 0)),
		}, host.TrapFault, "divide by zero"},
		{"endless loop", wasmtest.Guest{Process: hostile.Forever(code())}, host.TrapFuel, "units of fuel"},
		{"endless loop in _initialize", wasmtest.Guest{Initialize: hostile.Forever(code())}, host.TrapFuel, "units of fuel"},
		{"endless log", wasmtest.Guest{
			Process: hostile.Forever(code().I32Const(1).I32Const(0).I32Const(1000).Call(wasmtest.LogImport)),
		}, host.TrapFuel, "units of fuel"},
		{"endless output", wasmtest.Guest{
			Process: hostile.Forever(code().I32Const(outputArea).I32Const(int32(len(record(0)))).Call(wasmtest.FlushImport)),
		}, host.TrapOutput, "too much output"},
		{"memory without end", wasmtest.Guest{
			Process: code().Loop(wasmtest.NoResult).
				I32Const(16).MemoryGrow().I32Const(-1).Op(wasmtest.I32Ne).BrIf(0).End().Op(wasmtest.Unreachable),
		}, host.TrapMemory, "16777216 bytes of memory"},
		{"recursion without end", hostile.Recursive(), host.TrapStack, "nested deeper"},
		{"exponential calls", hostile.Exponential(40), host.TrapFuel, "units of fuel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := withData(tt.guest, outputArea, record(0))
			limits := host.Limits{
				FuelPerCall: 20_000_000, FuelSetup: 20_000_000, MemoryBytes: 16 << 20, WallTime: time.Minute, OutputBytes: 1 << 20,
			}
			i, err := instantiate(t, g.Bytes(), limits, oneOutput("identity"), nil)
			if err == nil {
				_, _, err = run(t.Context(), i, host.Batch{}, value("a"), value("b"))
			}
			if trap := trapOf(t, err, tt.kind); !strings.Contains(trap.Detail, tt.want) {
				t.Errorf("got %q, want it to say %q", trap.Detail, tt.want)
			}
		})
	}
}

func TestExitInMidBatch(t *testing.T) {
	const exit = 2 // the third import
	g := wasmtest.Guest{
		Prepare: func(b *wasmtest.Builder) {
			b.Import("wasi_snapshot_preview1", "proc_exit", []wasmtest.ValType{wasmtest.I32}, nil)
		},
		Process: code().I32Const(0).Call(exit).Append(answer(2, 0)),
	}
	_, _, err := process(t, g, 2)
	if trap := trapOf(t, err, host.TrapExit); !strings.Contains(trap.Detail, "proc_exit(0)") {
		t.Errorf("got %q", trap.Detail)
	}
}

func TestGoodOutputsOfHandMadeGuest(t *testing.T) {
	entries := join(
		abi.AppendOutput(nil, &abi.Output{Input: 0, Key: []byte("k"), Timestamp: 9}, true),
		record(1), abi.AppendReject(nil, 1, "bad\x00\xff record"),
		record(2), record(2),
	)
	g := withData(wasmtest.Guest{Process: answer(4, int32(len(entries)))}, outputArea, entries)
	got, result, err := process(t, g, 4)
	if err != nil {
		t.Fatal(err)
	}
	want := []output{
		{input: 0, timestamp: 9, key: "k", value: "<null>"},
		{input: 2, timestamp: 102, key: "<null>", value: "v"},
		{input: 2, timestamp: 102, key: "<null>", value: "v"},
	}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(result.Rejects) != 1 || result.Rejects[0] != (host.Reject{Index: 1, Reason: "bad \ufffd record"}) {
		t.Errorf("got rejects %+v", result.Rejects)
	}
	if wantBytes := len(entries) - len(record(1)) - len(abi.AppendReject(nil, 1, "bad\x00\xff record")); result.OutputBytes != wantBytes {
		t.Errorf("got %d bytes of outputs, want %d", result.OutputBytes, wantBytes)
	}
}

func TestFuelIsTheSameEveryTime(t *testing.T) {
	g := wasmtest.Guest{}
	_, first, err := process(t, g, 300)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := process(t, g, 300)
	if err != nil || first.Fuel != second.Fuel || first.Fuel <= 0 {
		t.Errorf("used %d units of fuel, and then %d (%v)", first.Fuel, second.Fuel, err)
	}

	// Slices do not change what a trap is decided by.
	var details []string
	for range 2 {
		_, _, err := process(t, wasmtest.Guest{Process: hostile.Forever(code())}, 1)
		details = append(details, trapOf(t, err, host.TrapFuel).Detail)
	}
	if details[0] != details[1] {
		t.Errorf("got %q, and then %q", details[0], details[1])
	}
}

// A guest without end must neither outlive its time limit nor hold up the
// process meanwhile: without yielding, runtime.GC would wait for it.
func TestEndlessGuestLetsTheCollectorIn(t *testing.T) {
	limits := host.Limits{FuelPerCall: 1 << 60, WallTime: 300 * time.Millisecond}
	i := mustInstantiate(t, wasmtest.Guest{Process: hostile.Forever(code())}.Bytes(), limits, oneOutput("identity"), nil)
	collected := 0
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				collected++
			}
		}
	}()
	_, _, err := run(t.Context(), i, host.Batch{}, value("a"))
	close(stop)
	<-done
	trapOf(t, err, host.TrapWallTime)
	if collected < 2 {
		t.Errorf("the collector ran %d times while the guest did", collected)
	}
}

func TestCancelledContextStopsTheGuest(t *testing.T) {
	i := mustInstantiate(t, wasmtest.Guest{Process: hostile.Forever(code())}.Bytes(),
		host.Limits{FuelPerCall: 1 << 60, WallTime: time.Hour}, oneOutput("identity"), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("the server stops")) })
	_, _, err := run(ctx, i, host.Batch{}, value("a"))
	if trap := trapOf(t, err, host.TrapCancelled); !strings.Contains(trap.Detail, "the server stops") {
		t.Errorf("got %q", trap.Detail)
	}
}

func TestLogFloodIsCutAndCounted(t *testing.T) {
	const exclamation = 0
	logs := wasmtest.Guest{Process: code().
		Loop(wasmtest.NoResult).
		I32Const(1).I32Const(exclamation).I32Const(3).Call(wasmtest.LogImport).
		LocalGet(2).I32Const(1).Op(wasmtest.I32Add).LocalTee(2).I32Const(1000).Op(wasmtest.I32LtU).BrIf(0).
		End().Append(answer(1, 0))}
	var lines logLines
	i := mustInstantiate(t, withData(logs, exclamation, []byte("hey")).Bytes(), host.Limits{LogLines: 5}, oneOutput("identity"), lines.add)
	if _, _, err := run(t.Context(), i, host.Batch{}, value("a")); err != nil {
		t.Fatal(err)
	}
	// The thousand lines may fall into two seconds.
	if len(lines) < 5 || len(lines) > 11 || lines[0] != "INFO hey" {
		t.Errorf("got %d lines: %q", len(lines), lines)
	}
}
