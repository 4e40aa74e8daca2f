package millstream

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/millstream-io/millstream"

// The limits of size. A file or function that needs more says why in oversize.
const (
	maxFileLines     = 500
	maxFunctionLines = 70
	maxMethods       = 30
)

// oversize lists what is larger than the limits, with the reason. It may only shrink.
var oversize = map[string]string{
	"broker/kafka.Service":         "one method for each Kafka request, each in a file of its own",
	"runtime/module/wasmtest.Code": "one method for each kind of instruction that tests write",
}

// forbidden says, per directory (and what is below it), what production code there must not import, and why.
// Imports within the module are written from its root.
var forbidden = []struct{ dir, imports, why string }{
	{"broker", "runtime", "the broker does not know that functions exist"},
	{"broker", "cli", "imports point down"},
	{"runtime", "cli", "imports point down"},
	{"broker/vfs", "broker", "vfs is the floor"},
	{"broker/record", "broker", "record knows bytes only"},
	{"broker/segment", "broker/commitlog", "imports point down"},
	{"broker/segment", "broker/topic", "imports point down"},
	{"broker/commitlog", "broker/topic", "imports point down"},
	{"broker/commitlog", "broker/cleaner", "the cleaner works on logs, not the other way round"},
	{"broker/topic", "broker/coord", "from topic downwards nobody knows what a group is"},
	{"broker/topic", "broker/kafka", "from topic downwards nobody knows what a request is"},
	{"broker/topic", "broker/wire", "from topic downwards nobody knows what a connection is"},
	{"broker/coord", "broker/kafka", "coordinators answer calls, not requests"},
	{"broker/wire", "broker/topic", "connections carry frames, they do not know topics"},
	{"runtime/worker", "broker", "a worker runs on any log"},
	{"runtime/deploy", "runtime/worker", "a specification does not know who runs it"},
	{"runtime/module", "runtime/host", "module is bytes, host runs them"},
	{"runtime/host", "broker", "a host runs guests, wherever records come from"},
	{"runtime/host", "runtime/engine", "a host runs guests, wherever records come from"},
	{"sdk", "runtime", "guests and their ABI depend on nothing of the host"},
	{"sdk", "broker", "guests and their ABI depend on nothing of the host"},
	{"plugins", "broker", "plugins use the SDK only"},
	{"examples", "broker", "examples use the SDK only"},
}

// testSupport are packages for tests; production code does not import them.
var testSupport = []string{
	"broker/suites", "runtime/engine/enginetest", "runtime/module/wasmtest", "runtime/verify", "runtime/worker/workertest",
}

// doors says which directories may import a dependency in production code: one door each, so that a swap touches one place.
var doors = map[string][]string{
	// cli/stream reads answers to Fetch itself where the client library says nothing: behind the last record.
	// runtime/engine/kafka fetches, produces and commits whole batches itself: the client library makes an object of each record.
	"github.com/twmb/franz-go/pkg/kmsg": {"broker/wire", "broker/kafka", "broker/coord", "broker/meta", "cli/stream", "runtime/engine/kafka"},
	"github.com/twmb/franz-go/pkg/kgo":  {"runtime/engine/kafka", "cli"},
	"github.com/twmb/franz-go/pkg/kadm": {"runtime/engine/kafka", "cli"},
	"github.com/tetratelabs/wazero":     {"runtime/host", "runtime/abi"},
	"github.com/klauspost/compress":     {"broker/record"},
	"github.com/pierrec/lz4":            {"broker/record"},
	"github.com/urfave/cli":             {"cli"},
	"github.com/gofrs/flock":            {"broker/vfs"},
	"github.com/dgraph-io/badger":       {"runtime/state"},
	"github.com/hamba/avro":             {"broker/schema"},
}

// prometheusFiles: metrics are declared in files of one name, whatever the package.
var prometheusFiles = regexp.MustCompile(`(^|/)(metrics[a-z_]*\.go|cli/.*\.go|(broker|runtime)/(broker|runtime)\.go)$`)

// bannedNames are packages that collect what has no home.
var bannedNames = []string{"util", "utils", "common", "helpers", "base", "types", "misc", "v2", "poc", "old"}

type sourceFile struct {
	path  string // from the root, with slashes
	dir   string
	test  bool
	fset  *token.FileSet
	ast   *ast.File
	lines int
}

// TestArchitecture keeps the laws of ARCHITECTURE.md.
func TestArchitecture(t *testing.T) {
	files := sources(t)
	t.Run("imports", func(t *testing.T) { checkImports(t, files) })
	t.Run("doors", func(t *testing.T) { checkDoors(t, files) })
	t.Run("sizes", func(t *testing.T) { checkSizes(t, files) })
	t.Run("packages", func(t *testing.T) { checkPackages(t, files) })
	t.Run("text", func(t *testing.T) { checkText(t) })
}

func sources(t *testing.T) []sourceFile {
	t.Helper()
	var out []sourceFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "testdata" || name == "vendor" || name == "node_modules" || (strings.HasPrefix(name, ".") && p != ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, src, parser.ParseComments)
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		out = append(out, sourceFile{path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), fset: fset, ast: f, lines: strings.Count(string(src), "\n")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found only %d source files: the walk is broken", len(out))
	}
	return out
}

func within(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }

func importsOf(f sourceFile) []string {
	var out []string
	for _, s := range f.ast.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

func checkImports(t *testing.T, files []sourceFile) {
	for _, law := range forbidden {
		if _, err := os.Stat(law.dir); err != nil {
			t.Errorf("law about %s, which does not exist: delete or mend the law", law.dir)
		}
	}
	for _, dir := range testSupport {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("law about %s, which does not exist: delete or mend the law", dir)
		}
	}
	for _, f := range files {
		if f.test {
			continue
		}
		for _, imp := range importsOf(f) {
			local, ok := strings.CutPrefix(imp, modulePath+"/")
			if !ok {
				continue
			}
			for _, dir := range testSupport {
				if within(local, dir) && !within(f.dir, "bench") && !slices.ContainsFunc(testSupport, func(d string) bool { return within(f.dir, d) }) {
					t.Errorf("%s imports %s, which is for tests", f.path, local)
				}
			}
			for _, law := range forbidden {
				if within(f.dir, law.dir) && within(local, law.imports) && !within(local, law.dir) {
					t.Errorf("%s imports %s: %s", f.path, local, law.why)
				}
			}
		}
	}
}

func checkDoors(t *testing.T, files []sourceFile) {
	for _, f := range files {
		if f.test || within(f.dir, "bench") {
			continue
		}
		for _, imp := range importsOf(f) {
			for dependency, dirs := range doors {
				if !within(imp, dependency) {
					continue
				}
				if !slices.ContainsFunc(dirs, func(d string) bool { return within(f.dir, d) }) {
					t.Errorf("%s imports %s, whose door is %s", f.path, imp, strings.Join(dirs, ", "))
				}
			}
			if strings.HasPrefix(imp, "github.com/prometheus/") && !prometheusFiles.MatchString(f.path) {
				t.Errorf("%s imports %s: metrics belong in a file named metrics.go", f.path, imp)
			}
		}
	}
}

func checkSizes(t *testing.T, files []sourceFile) {
	seen := map[string]bool{}
	over := func(key, what string) {
		seen[key] = true
		if oversize[key] == "" {
			t.Errorf("%s: %s; split it, or give the reason in oversize", key, what)
		}
	}
	methods := map[string]int{}
	for _, f := range files {
		if f.test || strings.HasSuffix(f.path, "_gen.go") {
			continue
		}
		if f.lines > maxFileLines {
			over(f.path, fmt.Sprintf("%d lines, limit %d", f.lines, maxFileLines))
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if n > maxFunctionLines {
				over(f.path+":"+fn.Name.Name, fmt.Sprintf("%d lines, limit %d", n, maxFunctionLines))
			}
			if fn.Recv != nil && len(fn.Recv.List) == 1 {
				methods[f.dir+"."+receiver(fn.Recv.List[0].Type)]++
			}
		}
	}
	for typ, n := range methods {
		if n > maxMethods {
			over(typ, fmt.Sprintf("%d methods, limit %d", n, maxMethods))
		}
	}
	for key := range oversize {
		if !seen[key] {
			t.Errorf("oversize names %s, which is within the limits now: delete the line", key)
		}
	}
}

func receiver(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	}
	return "?"
}

func checkPackages(t *testing.T, files []sourceFile) {
	documented := map[string]int{}
	packages := map[string]string{}
	for _, f := range files {
		if f.test {
			continue
		}
		packages[f.dir] = f.ast.Name.Name
		if f.ast.Doc != nil {
			documented[f.dir]++
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Name.Name == "init" && !guest(f.dir) {
				t.Errorf("%s has an init function: pass things in", f.path)
			}
		}
	}
	for dir, name := range packages {
		if documented[dir] != 1 {
			t.Errorf("package %s has %d package comments, want one", dir, documented[dir])
		}
		if slices.Contains(bannedNames, name) || slices.Contains(bannedNames, path.Base(dir)) {
			t.Errorf("package %s: the name says nothing", dir)
		}
	}
}

// guest reports whether a directory holds code that is compiled to WebAssembly, where init is how a plugin registers.
func guest(dir string) bool {
	return within(dir, "plugins") || within(dir, "examples") || within(dir, "sdk/go")
}

var (
	unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b|panic\("stub"\)`)
	sleeping   = regexp.MustCompile(`\btime\.Sleep\(`)
)

// checkText looks at lines: nothing unfinished, no test that sleeps.
func checkText(t *testing.T) {
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || (strings.HasPrefix(d.Name(), ".") && p != ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" || p == "arch_test.go" {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		bubbles := strings.Contains(string(b), `"testing/synctest"`) // there a sleep costs no time
		for i, line := range strings.Split(string(b), "\n") {
			if unfinished.MatchString(line) {
				t.Errorf("%s:%d: unfinished: %s", p, i+1, strings.TrimSpace(line))
			}
			if strings.HasSuffix(p, "_test.go") && sleeping.MatchString(line) && !bubbles {
				t.Errorf("%s:%d: a test sleeps: use testing/synctest, or wait for what it waits for", p, i+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
