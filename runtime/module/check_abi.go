package module

import (
	"fmt"
	"strings"

	"github.com/millstream-io/millstream/sdk/abi"
)

// Imports that a module may have, and exports that it must.

func (c *checker) importSection() {
	n := c.count("imports", c.caps.Imports)
	for range n {
		start := c.pos
		imp := Import{Module: string(c.name("an import's module")), Name: string(c.name("an import's name"))}
		kind := c.byte()
		if c.fault != nil {
			return
		}
		if kind != kindFunc {
			c.refuseImportKind(start, imp, kind)
			return
		}
		t := c.typeIndex()
		if c.fault != nil {
			return
		}
		if imp.Module == MeterModule || c.allowed == nil || !c.allowed(imp.Module, imp.Name) {
			c.failFix(start, importHint(imp), "imports %s.%s, which the host does not offer", imp.Module, imp.Name)
			return
		}
		c.funcs = append(c.funcs, t)
		c.report.Imports = append(c.report.Imports, imp)
	}
	c.imported = len(c.funcs)
}

func (c *checker) refuseImportKind(start int, imp Import, kind byte) {
	switch kind {
	case kindMemory:
		c.failFix(start, `let the module own its memory and export it as "memory" (no --import-memory)`,
			"imports its memory as %s.%s", imp.Module, imp.Name)
	case kindTable:
		c.failFix(start, "let the module own its table (no --import-table)", "imports a table, %s.%s", imp.Module, imp.Name)
	case kindGlobal:
		c.failFix(start, importHint(imp), "imports a global, %s.%s: only functions can be imported", imp.Module, imp.Name)
	case 4:
		c.failAt(start, "imports a tag, %s.%s: the exception handling proposal is not enabled", imp.Module, imp.Name)
	default:
		c.failAt(start, "import %s.%s is of unknown kind %d", imp.Module, imp.Name, kind)
	}
}

// importHint says what to do about an import that the host does not offer, by
// the toolchain that typically causes it.
func importHint(imp Import) string {
	has := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(imp.Name, p) {
				return true
			}
		}
		return false
	}
	switch {
	case imp.Module == "env" && imp.Name == "abort":
		return "AssemblyScript: compile with --use abort= (an empty name), so that abort traps"
	case imp.Module == "env" && (imp.Name == "seed" || imp.Name == "trace" || imp.Name == "console.log" || imp.Name == "Date.now"):
		return "AssemblyScript: this host has no JavaScript functions; avoid Math.random, Date and console"
	case has("emscripten_", "invoke_", "__cxa_", "__syscall", "_emscripten_") || imp.Module == "a":
		return "Emscripten: the module expects its JavaScript glue; compile with -sSTANDALONE_WASM --no-entry, or with clang --target=wasm32-wasi"
	case imp.Module == "env":
		return "an undefined symbol at link time, or a JavaScript host's function: link without --allow-undefined"
	case imp.Module == "wasi_unstable":
		return "built for WASI preview 0: use a toolchain for WASI preview 1 (wasip1)"
	case strings.HasPrefix(imp.Module, "wasi:"):
		return "built for WASI preview 2: use a toolchain for WASI preview 1 (wasip1)"
	case imp.Module == "wasi_snapshot_preview1" && has("path_", "fd_readdir", "fd_prestat"):
		return "a guest has no file system: take files as assets"
	case imp.Module == "wasi_snapshot_preview1" && has("sock_"):
		return "a guest has no network"
	case imp.Module == "wasi_snapshot_preview1":
		return "this WASI function is not offered to guests"
	case imp.Module == "go" || imp.Module == "gojs":
		return "built for a browser (GOOS=js): build with GOOS=wasip1 -buildmode=c-shared, or run millstream build"
	case strings.HasPrefix(imp.Module, "redpanda_transform"):
		return "this is a Redpanda transform: build it with Millstream's SDK"
	case imp.Module == "wbg" || strings.HasPrefix(imp.Module, "__wbindgen"):
		return "built by wasm-bindgen for JavaScript: compile with rustc --crate-type cdylib for wasm32-unknown-unknown, without wasm-bindgen"
	case strings.HasPrefix(imp.Module, "extism"):
		return "this is an Extism plugin: build it with Millstream's SDK"
	case imp.Module == abi.ImportModule:
		return "the module was built for a newer host: upgrade the server, or use an older SDK"
	case imp.Module == MeterModule:
		return "this name is reserved for the host: deploy the module as its compiler wrote it"
	}
	return "a guest may import only the functions of " + abi.ImportModule + " and some of wasi_snapshot_preview1"
}

// abiFunctions are the functions that every guest exports.
var abiFunctions = []struct {
	name            string
	params, results string // value types in binary form
}{
	{exportInitialize, "", ""},
	{abi.ExportAlloc, "\x7f\x7f", "\x7f"},
	{abi.ExportSetup, "\x7f\x7f", "\x7e"},
	{abi.ExportProcess, "\x7f\x7f", "\x7e"},
}

const (
	exportInitialize = "_initialize"
	exportMemory     = "memory"
	exportStart      = "_start"
)

func (c *checker) checkABI() {
	_, start := c.exports[exportStart]
	_, process := c.exports[abi.ExportProcess]
	switch {
	case start && process:
		c.failFix(-1, "build a reactor: -buildmode=c-shared (Go, TinyGo) or -mexec-model=reactor (clang)",
			"is a command (it exports _start), guests are reactors")
	case start:
		c.failFix(-1, "write it with Millstream's SDK and build it with millstream build",
			"is a program that runs once (it exports only _start), not a guest of Millstream's interface %s", abi.ImportModule)
	}
	if c.fault != nil {
		return
	}
	if e, ok := c.exports[exportMemory]; !ok || e.kind != kindMemory {
		c.failFix(-1, "export it (clang and rustc do; no --import-memory)", "does not export its memory as %q", exportMemory)
		return
	}
	for _, f := range abiFunctions {
		e, ok := c.exports[f.name]
		if !ok || e.kind != kindFunc {
			fix := "build it with Millstream's SDK (millstream init, millstream build)"
			if f.name == exportInitialize {
				fix = "build a reactor: -buildmode=c-shared (Go, TinyGo) or -mexec-model=reactor (clang)"
			}
			c.failFix(-1, fix, "does not export the function %s", f.name)
			return
		}
		t := c.types[c.funcs[e.index]]
		if string(t.params) != f.params || string(t.results) != f.results {
			c.failFix(-1, "see sdk/abi/SPEC.md", "%s has the signature %s, it must be %s",
				f.name, t, funcType{params: []byte(f.params), results: []byte(f.results)})
			return
		}
	}
}

// String writes the type as in (i32, i32) → i64.
func (t funcType) String() string {
	return fmt.Sprintf("(%s) → (%s)", typeList(t.params), typeList(t.results))
}

func typeList(types []byte) string {
	names := map[byte]string{0x7f: "i32", 0x7e: "i64", 0x7d: "f32", 0x7c: "f64", 0x7b: "v128", typeFuncRef: "funcref", typeExtern: "externref"}
	list := make([]string, len(types))
	for i, t := range types {
		list[i] = names[t]
	}
	return strings.Join(list, ", ")
}

// checkForm recognises what is no core module at all.
func checkForm(wasm []byte, caps Caps) error {
	refuse := func(fix, format string, args ...any) error {
		return &Refusal{Reason: fmt.Sprintf(format, args...), Position: 0, Fix: fix}
	}
	begins := func(prefix string) bool { return strings.HasPrefix(string(wasm[:min(len(wasm), 64)]), prefix) }
	build := "give the .wasm file that millstream build writes"
	switch {
	case len(wasm) == 0:
		return refuse(build, "the module is empty (0 bytes)")
	case len(wasm) > caps.SizeBytes:
		return refuse("strip debug information (-ldflags='-s -w', -no-debug) or slim the module",
			"the module has %d bytes, the limit is %d", len(wasm), caps.SizeBytes)
	case begins(magic + version):
		return nil
	case begins(magic) && len(wasm) >= 8 && wasm[6] == 1:
		return refuse("build a core module for WASI preview 1 (wasip1)", "this is a component (WASI preview 2), not a core module")
	case begins(magic):
		return refuse("", "WebAssembly of unknown version % x", wasm[len(magic):min(len(wasm), 8)])
	case begins("\x1f\x8b"):
		return refuse("unpack it first (gunzip)", "the module is compressed with gzip")
	case begins("\x28\xb5\x2f\xfd"):
		return refuse("unpack it first (zstd -d)", "the module is compressed with zstd")
	case begins("PK\x03\x04"):
		return refuse("unpack it first (unzip)", "this is a zip archive")
	case begins("\x7fELF"), begins("MZ"), begins("\xcf\xfa\xed\xfe"):
		return refuse("build for WebAssembly: millstream build, or GOOS=wasip1 GOARCH=wasm", "this is a native program")
	case looksLikeText(wasm):
		return refuse("compile it first (wat2wasm)", "this is WebAssembly text, not a binary")
	}
	return refuse(build, "this is no WebAssembly module (it begins with % x)", wasm[:min(len(wasm), 4)])
}

func looksLikeText(wasm []byte) bool {
	s := strings.TrimLeft(string(wasm[:min(len(wasm), 256)]), " \t\r\n")
	return strings.HasPrefix(s, "(") || strings.HasPrefix(s, ";;")
}
