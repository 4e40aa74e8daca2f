package module_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/runtime/module"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/sdk/abi"
)

func offered(mod, name string) bool {
	return mod == abi.ImportModule && (name == abi.ImportLog || name == abi.ImportFlush) ||
		mod == "wasi_snapshot_preview1" && name == "fd_write"
}

func check(wasm []byte) (*module.Report, error) {
	return module.Check(wasm, module.DefaultCaps(), offered)
}

func TestCheckAcceptsAGuest(t *testing.T) {
	wasm := wasmtest.Guest{}.Bytes()
	report, err := check(wasm)
	if err != nil {
		t.Fatal(err)
	}
	if report.Digest != module.DigestOf(wasm) || report.SizeBytes != len(wasm) || report.MemoryMin != 64*65536 {
		t.Errorf("report %+v", report)
	}
	if fmt.Sprint(report.Imports) != "[{millstream_v1 log} {millstream_v1 flush}]" || len(report.Exports) != 4 {
		t.Errorf("imports %v, exports %v", report.Imports, report.Exports)
	}
}

func TestCheckWarnsOfAsyncifyAndDebugInformation(t *testing.T) {
	b := wasmtest.Guest{}.Builder()
	b.Export("asyncify_start_unwind", wasmtest.KindFunc, 2)
	b.Custom(".debug_info", make([]byte, 2<<20))
	report, err := check(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Warnings) != 2 || !strings.Contains(report.Warnings[0], "-scheduler=none") || !strings.Contains(report.Warnings[1], "2.0 MiB") {
		t.Errorf("warnings %q", report.Warnings)
	}
}

// process is a guest with this body for the process function.
func process(body wasmtest.Code) []byte {
	return wasmtest.Guest{Process: body.I64Const(0)}.Bytes()
}

// section is a module of one section behind the header.
func sectionOf(id byte, content ...byte) []byte {
	return append([]byte(wasmtest.Header), wasmtest.Section(id, content)...)
}

func importing(mod, name string) []byte {
	return wasmtest.Guest{Prepare: func(b *wasmtest.Builder) { b.Import(mod, name, nil, nil) }}.Bytes()
}

func build(f func(b *wasmtest.Builder)) []byte {
	b := wasmtest.Guest{}.Builder()
	f(b)
	return b.Bytes()
}

// huge is an unsigned LEB128 of 2^32-1.
var huge = []byte{0xff, 0xff, 0xff, 0xff, 0x0f}

func TestCheckRefuses(t *testing.T) {
	type C = wasmtest.Code
	none := wasmtest.NoResult
	i32 := wasmtest.I32
	nested := func(n int, open func(C) C) C {
		c := C{}
		for range n {
			c = open(c)
		}
		return c.Repeat(n, C{}.End())
	}
	tests := []struct {
		name string
		wasm []byte
		want string // part of the refusal
	}{
		{"nothing", nil, "empty"},
		{"text", []byte("(module)"), "wat2wasm"},
		{"gzip", []byte("\x1f\x8b\x08\x00"), "gunzip"},
		{"native program", []byte("\x7fELF\x02"), "native program"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "component"},
		{"other version", []byte("\x00asm\x02\x00\x00\x00"), "unknown version"},
		{"magic only", []byte("\x00asm"), "unknown version"},
		{"rubbish", []byte("hello"), "no WebAssembly"},
		{"over the size", make([]byte, 11<<20), "the limit is 10485760"},
		{"cut short", wasmtest.Guest{}.Bytes()[:200], "cut short"},
		{"unknown section", sectionOf(14), "unknown section 14"},
		{"tag section", sectionOf(13, 0), "exception handling"},
		{"section twice", append(sectionOf(1, 0), wasmtest.Section(1, []byte{0})...), "repeated"},
		{"section order", append(sectionOf(3, 0), wasmtest.Section(1, []byte{0})...), "out of order"},
		{"bytes behind a section", sectionOf(1, 0, 0), "too many"},
		{"claims types", sectionOf(1, huge...), "claims 4294967295 types"},
		{"claims imports", sectionOf(2, huge...), "claims 4294967295 imports"},
		{"claims functions", sectionOf(3, huge...), "claims 4294967295 functions"},
		{"claims globals", sectionOf(6, huge...), "claims 4294967295 globals"},
		{"claims exports", sectionOf(7, huge...), "claims 4294967295 exports"},
		{"claims elements", sectionOf(9, huge...), "claims 4294967295 element segments"},
		{"claims code", sectionOf(10, huge...), "claims 4294967295 function bodies"},
		{"claims data", sectionOf(11, huge...), "claims 4294967295 data segments"},
		{"claims data count", sectionOf(12, huge...), "data segments"},
		{"claims parameters", sectionOf(1, append([]byte{1, 0x60}, huge...)...), "parameters"},
		{"LEB128 of six bytes", sectionOf(1, 0x80, 0x80, 0x80, 0x80, 0x80, 0), "malformed number"},
		{"LEB128 over 32 bits", sectionOf(1, 0xff, 0xff, 0xff, 0xff, 0x1f), "malformed number"},
		{"GC type", sectionOf(1, 1, 0x5f, 0), "garbage collection"},
		{"start function", build(func(b *wasmtest.Builder) { b.Start(2) }), "start function"},
		{"two memories", build(func(b *wasmtest.Builder) { b.Memory(1, -1) }), "multi-memory"},
		{"shared memory", sectionOf(5, 1, 3, 1, 1), "threads"},
		{"memory64", sectionOf(5, 1, 4, 1), "memory64"},
		{"memory over its limit", wasmtest.Guest{Pages: 1025}.Bytes(), "limit is 67108864"},
		{"memory over 4 GiB", sectionOf(5, append([]byte{1, 1, 1}, huge...)...), "65536 pages"},
		{"two tables", build(func(b *wasmtest.Builder) { b.Table(1, -1); b.Table(1, -1) }), "one is allowed"},
		{"large table", build(func(b *wasmtest.Builder) { b.Table(1<<27, -1) }), "the limit is 16384"},
		{"elements past the table", build(func(b *wasmtest.Builder) { b.Table(1, -1); b.Elem(1, 2) }), "reaches entry 2"},
		{"data past the memory", build(func(b *wasmtest.Builder) { b.Data(64<<16-1, []byte("ab")) }), "reaches byte"},
		{"memory imported", wasmtest.Guest{Prepare: func(b *wasmtest.Builder) {
			b.ImportRaw("env", "memory", []byte{2, 0, 1})
		}}.Bytes(), "--import-memory"},
		{"reserved export", build(func(b *wasmtest.Builder) { b.Export(module.FuelGlobal, wasmtest.KindFunc, 2) }), "reserved"},
		{"reserved import", importing(module.MeterModule, module.MeterYield), "reserved"},
		{"AssemblyScript", importing("env", "abort"), "--use abort="},
		{"Emscripten", importing("env", "emscripten_memcpy_big"), "STANDALONE_WASM"},
		{"GOOS=js", importing("gojs", "runtime.wasmExit"), "GOOS=wasip1"},
		{"Redpanda", importing("redpanda_transform", "check_abi_version_1"), "Redpanda"},
		{"files", importing("wasi_snapshot_preview1", "path_open"), "imports wasi_snapshot_preview1.path_open, which the host does not offer (at byte"},
		{"network", importing("wasi_snapshot_preview1", "sock_recv"), "no network"},
		{"newer host", importing(abi.ImportModule, "teleport"), "newer host"},
		{"duplicate export", build(func(b *wasmtest.Builder) { b.Export("memory", wasmtest.KindMemory, 0) }), "twice"},
		{"export of nothing", build(func(b *wasmtest.Builder) { b.Export("x", wasmtest.KindFunc, 99) }), "does not exist"},
		{"wrong signature", wrongSignature(), "_initialize has the signature (i32) → (), it must be () → ()"},
		{"command", command(), "runs once"},
		{"no exports", sectionOf(1, 0), "memory"},
		{"threads", process(C{}.Op(0xfe, 0x03, 0)), "threads"},
		{"exceptions", process(C{}.Op(0x08, 0)), "exception handling"},
		{"tail call", process(C{}.Op(0x12, 2)), "tail call"},
		{"GC", process(C{}.Op(0xfb, 0, 0)), "garbage collection"},
		{"relaxed SIMD", process(C{}.SIMD(0x100)), "relaxed SIMD"},
		{"unknown opcode", process(C{}.Op(0x27)), "unknown opcode 0x27"},
		{"unknown 0xFC", process(C{}.Ext(18)), "unknown opcode 0xfc 18"},
		{"unknown 0xFD", process(C{}.SIMD(0x9a)), "unknown opcode"},
		{"multi-memory access", process(C{}.LocalGet(0).Op(wasmtest.I32Load, 0x40, 1, 0)), "multi-memory"},
		{"fuel global", process(C{}.I64Const(1).GlobalSet(0)), "global 0 does not exist"},
		{"yield function", process(C{}.Call(6)), "function 6 does not exist"},
		{"local", process(C{}.LocalGet(8).Drop()), "local 8 does not exist"},
		{"label", process(C{}.Br(1)), "label 1"},
		{"table.grow", build(func(b *wasmtest.Builder) {
			b.Table(1, -1)
			b.Func(nil, nil, nil, C{}.RefNull(wasmtest.FuncRef).I32Const(1).TableGrow().Drop())
		}), "declare one"},
		{"else without if", process(C{}.Else()), "else without if"},
		{"nesting", process(nested(1025, func(c C) C { return c.Block(none) })), "1024 deep"},
		{"loop nesting", process(nested(65, func(c C) C { return c.Loop(none) })), "64 deep"},
		{"br_table", process(C{}.LocalGet(0).BrTable(make([]uint32, 4098)...)), "br_table of 4097"},
		{"br_table claims", process(append(C{}.LocalGet(0).Op(0x0e), huge...)), "br_table claims"},
		{"locals", build(func(b *wasmtest.Builder) { b.Func(nil, nil, i32s(1001), nil) }), "more than 1000 locals"},
		{"body", process(C{}.Repeat(128<<10, C{}.Op(wasmtest.Nop))), "131072"},
		{"flat ifs and locals", build(func(b *wasmtest.Builder) {
			b.Func([]wasmtest.ValType{i32}, nil, i32s(999), C{}.Repeat(201, C{}.LocalGet(0).If(none).End()))
		}), "201 blocks and 1000 locals"},
		{"bulk operations and locals", build(func(b *wasmtest.Builder) {
			b.Func([]wasmtest.ValType{i32}, nil, i32s(999), C{}.Repeat(201, C{}.LocalGet(0).LocalGet(0).LocalGet(0).MemoryFill()))
		}), "201 blocks and 1000 locals"},
		{"bulk operations", process(C{}.Repeat(2001, C{}.LocalGet(0).LocalGet(0).LocalGet(0).MemoryFill())), "2000 bulk"},
		{"functions", build(func(b *wasmtest.Builder) {
			for range 20_001 {
				b.Func(nil, nil, nil, nil)
			}
		}), "20000"},
		{"manifest twice", build(func(b *wasmtest.Builder) {
			b.Custom(module.ManifestSection, []byte(`{"name":"a"}`))
			b.Custom(module.ManifestSection, []byte(`{"name":"a"}`))
		}), "second manifest"},
		{"manifest field", build(func(b *wasmtest.Builder) {
			b.Custom(module.ManifestSection, []byte(`{"name":"a","colour":"red"}`))
		}), `unknown field "colour"`},
		{"custom sections", append([]byte(wasmtest.Header), bytes.Repeat([]byte{0, 1, 0}, 1001)...), "custom sections"},
		{"locals claimed", claimedLocals(), "locals"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := check(test.wasm)
			var refusal *module.Refusal
			if !errors.As(err, &refusal) || !errors.Is(err, module.ErrRefused) {
				t.Fatalf("got %v, want a refusal with %q", err, test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
}

func i32s(n int) []wasmtest.ValType {
	list := make([]wasmtest.ValType, n)
	for i := range list {
		list[i] = wasmtest.I32
	}
	return list
}

func command() []byte {
	b := wasmtest.New()
	b.Memory(1, -1)
	b.Export("memory", wasmtest.KindMemory, 0)
	b.Export("_start", wasmtest.KindFunc, b.Func(nil, nil, nil, nil))
	return b.Bytes()
}

func wrongSignature() []byte {
	b := wasmtest.New()
	b.Memory(1, -1)
	b.Export("memory", wasmtest.KindMemory, 0)
	b.Export("_initialize", wasmtest.KindFunc, b.Func(i32s(1), nil, nil, nil))
	return b.Bytes()
}

// claimedLocals is a function of 2^32-1 locals in a few bytes.
func claimedLocals() []byte {
	body := append(append([]byte{1}, huge...), 0x7f, 0x0b)
	wasm := append(sectionOf(1, 1, 0x60, 0, 0), wasmtest.Section(3, []byte{1, 0})...)
	return append(wasm, wasmtest.Section(10, append([]byte{1, byte(len(body))}, body...))...)
}

// largest returns a module near the caps: 10 MiB of code.
func largest() []byte {
	b := wasmtest.Guest{}.Builder()
	stretch := wasmtest.Code{}.Repeat(1000, wasmtest.Code{}.LocalGet(0).I32Const(70000).Op(wasmtest.I32Add).LocalSet(0).
		Block(wasmtest.NoResult).LocalGet(0).BrIf(0).End())
	for range 600 {
		b.Func([]wasmtest.ValType{wasmtest.I32}, nil, nil, stretch)
	}
	return b.Bytes()
}

func TestCheckAllocatesLittle(t *testing.T) {
	wasm := largest()
	if len(wasm) < 8<<20 {
		t.Fatalf("the module has only %d bytes", len(wasm))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := check(wasm); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("Check of %d bytes allocated %d", len(wasm), got)
	}
}

func BenchmarkCheck(b *testing.B) {
	wasm := largest()
	b.SetBytes(int64(len(wasm)))
	for b.Loop() {
		if _, err := check(wasm); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMeter(b *testing.B) {
	wasm := largest()
	b.SetBytes(int64(len(wasm)))
	for b.Loop() {
		if _, err := module.Meter(wasm, 1000); err != nil {
			b.Fatal(err)
		}
	}
}
