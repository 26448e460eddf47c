package doctest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

var (
	// serverCommand is a command of byok-server, in a block or inline.
	serverCommand = regexp.MustCompile("(?m)^ *(?:ExecStart=/usr/local/bin/)?byok-server ([a-z].*)$|`byok-server ([a-z][^`]*)`")
	// makeTarget is a target of make, in a block or inline.
	makeTarget  = regexp.MustCompile("(?m)^ *make ([a-z].*)$|`make ([a-z][^`]*)`")
	commandWord = regexp.MustCompile(`^[a-z][a-z-]*$`)
	// comment is what follows a command, or sends it to the background.
	comment = regexp.MustCompile(`\s+(#|2?>|&).*$`)
)

// commands returns what a pattern finds in the documents, by page.
func commands(t *testing.T, pattern *regexp.Regexp) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, page := range pages(t) {
		text := strings.ReplaceAll(page.text, "\\\n", " ")
		for _, match := range pattern.FindAllStringSubmatch(text, -1) {
			found[page.path] = append(found[page.path], comment.ReplaceAllString(match[1]+match[2], ""))
		}
	}
	return found
}

// Every command of byok-server that the documents name is one, with flags that
// it has: with --help, it says so and does nothing.
func TestServerCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, err := byokserver.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, all := range commands(t, serverCommand) {
		for _, text := range all {
			if strings.HasPrefix(text, "did not ") { // a message of the server
				continue
			}
			// Placeholders and alternatives of a usage line.
			args := strings.Fields(strings.NewReplacer("|", " ", "'", "", "...", "").Replace(text))
			if strings.Contains(text, "|") {
				args = args[:2]
			}
			n++
			cmd := exec.Command(bin, append(args, "--help")...)
			cmd.Dir, cmd.Env = dir, []string{}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Usage:") {
				t.Errorf("%s: byok-server %s: %v\n%s", path, text, err, out)
			}
			// A command that does not exist has the help of what is above it.
			words := 0
			for words < len(args) && commandWord.MatchString(args[words]) {
				words++
			}
			if command := "byok-server " + strings.Join(args[:words], " "); !strings.Contains(string(out), command) {
				t.Errorf("%s: there is no command %s", path, command)
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d commands found", n)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the commands left %v behind (%v)", left, err)
	}
}

// Every target of make that the documents name is in the makefile.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile := read(t, "GNUmakefile")
	n := 0
	for path, all := range commands(t, makeTarget) {
		for _, text := range all {
			for _, target := range strings.Fields(text) {
				if strings.Contains(target, "=") {
					continue
				}
				n++
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).MatchString(makefile) {
					t.Errorf("%s: make %s: there is no target %s", path, text, target)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d targets found", n)
	}
}
