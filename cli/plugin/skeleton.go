package plugin

import (
	"bytes"
	_ "embed"
	"path"
	"strings"

	"golang.org/x/tools/txtar"
)

//go:embed skeleton/go.txtar
var goSkeleton []byte

// goSDK is the source of the Go SDK without its tests. It is a copy, since the
// SDK is a module of its own, which cannot be embedded; a test compares it with
// the original and rewrites it with -update.
//
//go:embed skeleton/gosdk.txtar
var goSDK []byte

// skeletonFile is a file that init writes.
type skeletonFile struct {
	path    string // with slashes, below the plugin's directory
	content []byte
}

// skeleton returns the files of a new plugin in Go.
func skeleton(name string) []skeletonFile {
	var files []skeletonFile
	for _, f := range txtar.Parse(goSkeleton).Files {
		files = append(files, skeletonFile{f.Name, bytes.ReplaceAll(f.Data, []byte("PLUGIN"), []byte(name))})
	}
	for _, f := range txtar.Parse(goSDK).Files {
		files = append(files, skeletonFile{path.Join("sdk", f.Name), f.Data})
	}
	return files
}

// pluginName makes a manifest's name of a directory's name; "" if nothing of it can stay.
func pluginName(dir string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(dir) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String()[:min(b.Len(), 64)], "-_.")
}
