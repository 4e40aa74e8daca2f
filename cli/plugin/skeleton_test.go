package plugin

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite skeleton/gosdk.txtar from the SDK")

// TestSDKCopyIsCurrent keeps what init writes equal to the SDK.
func TestSDKCopyIsCurrent(t *testing.T) {
	const root = "../../sdk/go/transform"
	archive := &txtar.Archive{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
		if d.IsDir() || (!source && name != "go.mod") {
			return nil
		}
		content, err := os.ReadFile(p)
		archive.Files = append(archive.Files, txtar.File{Name: filepath.ToSlash(name), Data: content})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := txtar.Format(archive)
	if *update {
		if err := os.WriteFile("skeleton/gosdk.txtar", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(goSDK, want) {
		t.Error("skeleton/gosdk.txtar differs from sdk/go/transform; run: go test ./cli/plugin -run TestSDKCopyIsCurrent -update")
	}
}

func TestPluginName(t *testing.T) {
	for dir, want := range map[string]string{
		"shout": "shout", "My Plugin": "my-plugin", "größe": "gre", "..": "", "-x-": "x", "a_b.c": "a_b.c",
		strings.Repeat("a", 100): strings.Repeat("a", 64),
	} {
		if got := pluginName(dir); got != want {
			t.Errorf("pluginName(%q) = %q, want %q", dir, got, want)
		}
	}
}
