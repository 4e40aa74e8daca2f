package acceptance

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/cli.md instead of comparing it")

const cliDocument = "../../docs/cli.md"

// TestCLIDocument: the reference of the command line is what the commands say of themselves.
func TestCLIDocument(t *testing.T) {
	want := renderCLIDocument(t)
	if *update {
		if err := os.WriteFile(cliDocument, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(cliDocument)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/cli.md is not what the commands say; write it again: go test ./cli/acceptance -run TestCLIDocument -update")
	}
}

const cliPreface = `# The command line

Made from what the commands say of themselves (` + "`millstream COMMAND --help`" + `); a test keeps it so.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable. Every command has ` + "`--json`" + `. Flags may stand before
or after the arguments. Addresses come from ` + "`--brokers` and `--admin`, or `MILLSTREAM_BROKERS` (host:port,…) and `MILLSTREAM_ADMIN`" + ` (http://host:port).
`

func renderCLIDocument(t *testing.T) string {
	t.Helper()
	var doc strings.Builder
	doc.WriteString(cliPreface)
	for _, command := range commandsOf(t, nil) {
		out, err := exec.Command(binary, append(slices.Clone(command), "--help")...).Output()
		if err != nil {
			t.Fatalf("%s --help: %v", strings.Join(command, " "), err)
		}
		fmt.Fprintf(&doc, "\n## millstream %s\n\n```\n%s\n```\n", strings.Join(command, " "), strings.TrimSpace(string(out)))
	}
	return doc.String()
}

var commandLine = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) {2,}\S`)

// commandsOf lists the commands below a prefix, leaves only, as the help shows them.
func commandsOf(t *testing.T, prefix []string) [][]string {
	t.Helper()
	out, err := exec.Command(binary, append(slices.Clone(prefix), "--help")...).Output()
	if err != nil {
		t.Fatalf("%s --help: %v", strings.Join(prefix, " "), err)
	}
	list, _, found := strings.Cut(string(out), "\nMore about one:")
	if !found {
		return [][]string{prefix}
	}
	var all [][]string
	for _, m := range commandLine.FindAllStringSubmatch(list, -1) {
		all = append(all, commandsOf(t, append(slices.Clone(prefix), m[1]))...)
	}
	if len(all) == 0 {
		t.Fatalf("no commands found in the help of %q:\n%s", strings.Join(prefix, " "), out)
	}
	return all
}

// TestReadmeQuickStart types what the README says a newcomer types.
func TestReadmeQuickStart(t *testing.T) {
	if !strings.Contains(builtPlugins(t), "translate") {
		lack(t, "the ready-made plugins", "make plugins")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(sh)?\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 3 {
		t.Fatal("the README has lost its quick start")
	}
	commands, want := blocks[1][2], blocks[2][2]
	commands = strings.ReplaceAll(commands, "bin/millstream", binary)
	commands = regexp.MustCompile(`(?m)^.* server &.*$`).ReplaceAllString(commands, "")
	s := start(t, t.TempDir())
	got := s.run(t, "", "bash", "-ec", commands)
	if !strings.HasSuffix(got, want) {
		t.Errorf("the README promises\n%s\nand its commands print\n%s", want, got)
	}
}

// TestJSON: every list prints JSON when asked.
func TestJSON(t *testing.T) {
	s := start(t, t.TempDir())
	for _, args := range [][]string{{"list"}, {"topic", "list"}, {"group", "list"}, {"plugin", "list"}, {"version"}} {
		out := s.millstream(t, "", append(args, "--json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("millstream %s --json prints %q", strings.Join(args, " "), out)
		}
	}
}
