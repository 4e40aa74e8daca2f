// Command millstream is the binary: a broker and a runtime for WebAssembly
// functions between topics, and everything to work with them.
package main

import (
	"os"

	"github.com/millstream-io/millstream/cli"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

func main() { os.Exit(cli.Main(version)) }
