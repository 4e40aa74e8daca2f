package wasi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/abi/wasi"
	"github.com/millstream-io/millstream/runtime/module/wasmtest"
)

// Results of WASI functions.
const (
	success    = 0
	badFile    = 8
	fault      = 21
	invalid    = 28
	notCapable = 76
)

const outside = 1<<32 - 4 // an address outside of memory

// guest is a module that hands every call on to the WASI function of that name.
type guest struct {
	t      *testing.T
	ctx    context.Context
	module api.Module
	system wasi.System
	fuel   int64
	prints map[int]string
}

type imported struct {
	name      string
	signature string // i = i32, I = i64
}

var imports = []imported{
	{"args_sizes_get", "ii"}, {"environ_sizes_get", "ii"}, {"args_get", "ii"}, {"environ_get", "ii"},
	{"clock_res_get", "ii"}, {"clock_time_get", "iIi"}, {"fd_write", "iiii"}, {"fd_read", "iiii"},
	{"fd_close", "i"}, {"fd_seek", "iIii"}, {"fd_fdstat_get", "ii"}, {"fd_prestat_get", "ii"},
	{"poll_oneoff", "iiii"}, {"proc_exit", "i"}, {"random_get", "ii"}, {"sched_yield", ""},
	{"path_open", "iiiiiIIii"}, {"sock_accept", "iii"},
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { r.Close(context.Background()) })
	if err := wasi.Instantiate(ctx, r); err != nil {
		t.Fatal(err)
	}
	b := wasmtest.New()
	types := make(map[string][]wasmtest.ValType)
	for _, f := range imports {
		for _, c := range f.signature {
			v := wasmtest.I32
			if c == 'I' {
				v = wasmtest.I64
			}
			types[f.name] = append(types[f.name], v)
		}
		b.Import(wasi.Module, f.name, types[f.name], results(f.name))
	}
	b.Memory(1, -1)
	b.Export("memory", wasmtest.KindMemory, 0)
	for n, f := range imports {
		var body wasmtest.Code
		for p := range types[f.name] {
			body = body.LocalGet(uint32(p))
		}
		b.Export(f.name, wasmtest.KindFunc, b.Func(types[f.name], results(f.name), nil, body.Call(uint32(n))))
	}
	g := &guest{t: t, prints: make(map[int]string)}
	g.system = wasi.System{
		Write:  func(fd int, p []byte) { g.prints[fd] += string(p) },
		Charge: func(units int64) { g.fuel += units },
	}
	g.ctx = wasi.WithSystem(ctx, &g.system)
	m, err := r.InstantiateWithConfig(g.ctx, b.Bytes(), wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	g.module = m
	g.system.Begin(time.UnixMilli(5000), 1)
	return g
}

func results(name string) []wasmtest.ValType {
	if name == "proc_exit" {
		return nil
	}
	return []wasmtest.ValType{wasmtest.I32}
}

func (g *guest) call(name string, args ...uint64) uint32 {
	g.t.Helper()
	result, err := g.module.ExportedFunction(name).Call(g.ctx, args...)
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return uint32(result[0])
}

func (g *guest) want(code uint32, name string, args ...uint64) {
	g.t.Helper()
	if got := g.call(name, args...); got != code {
		g.t.Errorf("%s%v: got %d, want %d", name, args, got, code)
	}
}

func (g *guest) u64(address uint32) uint64 {
	v, _ := g.module.Memory().ReadUint64Le(address)
	return v
}

func TestNothingOfTheMachineIsVisible(t *testing.T) {
	g := newGuest(t)
	g.module.Memory().Write(0, bytes.Repeat([]byte{0xff}, 16))
	g.want(success, "args_sizes_get", 0, 4)
	g.want(success, "environ_sizes_get", 8, 12)
	if g.u64(0) != 0 || g.u64(8) != 0 {
		t.Error("there are arguments or environment variables")
	}
	g.want(success, "args_get", 0, 0)
	g.want(success, "environ_get", 0, 0)
	g.want(badFile, "fd_prestat_get", 3, 0)
	g.want(notCapable, "path_open", 3, 0, 0, 0, 0, 0, 0, 0, 0)
	g.want(badFile, "sock_accept", 3, 0, 0)
	g.want(success, "fd_close", 1)
	g.want(badFile, "fd_close", 3)
	g.want(badFile, "fd_seek", 3, 0, 0, 0)
	g.want(success, "fd_fdstat_get", 1, 0)
	g.want(badFile, "fd_fdstat_get", 3, 0)
	g.module.Memory().WriteUint32Le(100, 7)
	g.want(success, "fd_read", 0, 0, 0, 100)
	if n, _ := g.module.Memory().ReadUint32Le(100); n != 0 {
		t.Errorf("read %d bytes of standard input", n)
	}
	g.want(success, "sched_yield")
}

func TestAddressesOutsideOfMemoryAreFaults(t *testing.T) {
	g := newGuest(t)
	g.want(fault, "args_sizes_get", outside, 0)
	g.want(fault, "environ_sizes_get", 0, outside)
	g.want(fault, "clock_res_get", 0, outside)
	g.want(fault, "clock_time_get", 0, 0, outside)
	g.want(fault, "fd_write", 1, outside, 1, 0)
	g.want(fault, "fd_read", 0, 0, 0, outside)
	g.want(fault, "fd_fdstat_get", 1, outside)
	g.want(fault, "poll_oneoff", outside, 0, 1, 0)
	g.want(fault, "poll_oneoff", 0, outside, 1, 0)
	g.want(fault, "poll_oneoff", 0, 1000, 1, outside)
	g.want(fault, "random_get", outside, 8)
	g.want(fault, "random_get", 0, 1<<32-1)

	// One good part, one that is not.
	le := binary.LittleEndian
	var vector []byte
	for _, v := range []uint32{0, 4, 1 << 31, 1 << 31} {
		vector = le.AppendUint32(vector, v)
	}
	g.module.Memory().Write(200, vector)
	g.want(fault, "fd_write", 1, 200, 2, 0)
	g.want(fault, "fd_write", 1, 65528, 2, 0)
	g.want(invalid, "fd_write", 1, 0, 1<<29, 0)
	g.want(badFile, "fd_write", 3, 200, 1, 0)
	g.want(invalid, "poll_oneoff", 0, 0, 0, 0)
	g.want(invalid, "poll_oneoff", 0, 0, 1<<28, 0)
}

func TestClocksShowTheBatch(t *testing.T) {
	g := newGuest(t)
	const realtime, monotonic, processCPU = 0, 1, 2
	for range 2 {
		g.want(success, "clock_time_get", realtime, 0, 0)
		if got := g.u64(0); got != 5_000_000_000 {
			t.Errorf("the wall clock shows %d", got)
		}
	}
	g.want(success, "clock_time_get", monotonic, 0, 0)
	g.want(success, "clock_time_get", monotonic, 0, 8)
	if first, second := g.u64(0), g.u64(8); second <= first {
		t.Errorf("the monotonic clock shows %d and then %d", first, second)
	}
	g.want(invalid, "clock_time_get", processCPU, 0, 0)
	g.want(invalid, "clock_res_get", processCPU, 0)
	g.want(success, "clock_res_get", realtime, 0)

	// An earlier batch is replayed.
	before := g.u64(8)
	g.system.Begin(time.UnixMilli(1000), 1)
	g.want(success, "clock_time_get", realtime, 0, 0)
	g.want(success, "clock_time_get", monotonic, 0, 8)
	if g.u64(0) != 1_000_000_000 || g.u64(8) <= before {
		t.Errorf("wall clock %d, monotonic clock %d after %d", g.u64(0), g.u64(8), before)
	}
}

func TestWaitingMovesTheClockOn(t *testing.T) {
	const absolute = 1
	for _, tt := range []struct {
		name     string
		clock    uint32
		timeout  uint64
		flags    uint16
		wantWall uint64
	}{
		{"a second", 1, 1e9, 0, 6e9},
		{"until a time", 0, 9e9, absolute, 9e9},
		{"until a time that is over", 0, 1e9, absolute, 5e9},
		{"for ever", 1, 1<<64 - 1, 0, 5e9 + 365*24*3600*1e9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuest(t)
			le := binary.LittleEndian
			subscription := make([]byte, 48)
			le.PutUint64(subscription, 77)
			le.PutUint32(subscription[16:], tt.clock)
			le.PutUint64(subscription[24:], tt.timeout)
			le.PutUint16(subscription[40:], tt.flags)
			g.module.Memory().Write(0, subscription)
			g.module.Memory().Write(100, bytes.Repeat([]byte{0xff}, 32))
			g.want(success, "poll_oneoff", 0, 100, 1, 200)
			event, _ := g.module.Memory().Read(100, 32)
			if want := append([]byte{77}, make([]byte, 31)...); !bytes.Equal(event, want) {
				t.Errorf("got event %x", event)
			}
			g.want(success, "clock_time_get", 0, 0, 0)
			if got := g.u64(0); got != tt.wantWall {
				t.Errorf("the clock shows %d, want %d", got, tt.wantWall)
			}
		})
	}
}

func TestRandomBytesComeFromTheSeed(t *testing.T) {
	draw := func(seed uint64) string {
		g := newGuest(t)
		g.system.Begin(time.UnixMilli(0), seed)
		g.want(success, "random_get", 0, 21)
		p, _ := g.module.Memory().Read(0, 21)
		return string(p)
	}
	first := draw(1)
	if first != draw(1) || first == draw(2) || first[16:] == "\x00\x00\x00\x00\x00" {
		t.Errorf("got %x, %x, %x", first, draw(1), draw(2))
	}
}

func TestPrintedBytesArePassedOnAndPaidFor(t *testing.T) {
	g := newGuest(t)
	g.module.Memory().Write(0, []byte("hello, world"))
	var vector []byte
	for _, v := range []uint32{0, 5, 5, 7} {
		vector = binary.LittleEndian.AppendUint32(vector, v)
	}
	g.module.Memory().Write(100, vector)
	before := g.fuel
	g.want(success, "fd_write", 1, 100, 2, 200)
	g.want(success, "fd_write", 2, 100, 1, 200)
	if g.prints[1] != "hello, world" || g.prints[2] != "hello" {
		t.Errorf("got %v", g.prints)
	}
	if written, _ := g.module.Memory().ReadUint32Le(200); written != 5 {
		t.Errorf("says that it wrote %d bytes", written)
	}
	if cost := g.fuel - before; cost < 17 {
		t.Errorf("cost %d units of fuel", cost)
	}
}

func TestExitIsAnError(t *testing.T) {
	g := newGuest(t)
	_, err := g.module.ExportedFunction("proc_exit").Call(g.ctx, 3)
	var exit *wasi.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("got %v", err)
	}
}

func TestOffers(t *testing.T) {
	if !wasi.Offers("fd_write") || wasi.Offers("path_execute") {
		t.Error("fd_write is part of the snapshot, path_execute is not")
	}
}
