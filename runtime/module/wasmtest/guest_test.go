package wasmtest_test

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/millstream-io/millstream/runtime/module/wasmtest"
	"github.com/millstream-io/millstream/sdk/abi"
)

func TestIdentityGuestCopiesEveryRecord(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	_, err := r.NewHostModuleBuilder(abi.ImportModule).
		NewFunctionBuilder().WithFunc(func(uint32, uint32, uint32) {}).Export(abi.ImportLog).
		NewFunctionBuilder().WithFunc(func(uint32, uint32) {}).Export(abi.ImportFlush).
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, wasmtest.Guest{}.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	address := call(t, m, abi.ExportAlloc, abi.AreaInput, 1000)
	batch := make([]byte, abi.BatchHeaderBytes)
	binary.LittleEndian.PutUint32(batch, 2)
	for _, value := range []string{"one", "three"} {
		record := make([]byte, abi.RecordHeaderBytes)
		binary.LittleEndian.PutUint32(record, uint32(abi.RecordHeaderBytes+len(value)))
		binary.LittleEndian.PutUint32(record[4:], 0xffffffff)
		binary.LittleEndian.PutUint32(record[8:], uint32(len(value)))
		batch = append(append(batch, record...), value...)
	}
	m.Memory().Write(uint32(address), batch)

	got := call(t, m, abi.ExportProcess, address, uint64(len(batch)))
	want := uint64(2)<<32 | uint64(len(batch)-abi.BatchHeaderBytes)
	if got != want {
		t.Fatalf("process returned %#x, want %#x", got, want)
	}
	out, _ := m.Memory().Read(uint32(call(t, m, abi.ExportAlloc, abi.AreaOutput, 1000)), uint32(got))
	second := out[abi.OutputHeaderBytes+len("one"):]
	if second[4] != abi.KindRecord || second[8] != 1 || string(second[abi.OutputHeaderBytes:]) != "three" {
		t.Fatalf("second output is % x", second)
	}
}

func call(t *testing.T, m api.Module, name string, args ...uint64) uint64 {
	t.Helper()
	results, err := m.ExportedFunction(name).Call(context.Background(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}
