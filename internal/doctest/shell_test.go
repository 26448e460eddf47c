package doctest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// page is a template or another document.
type page struct {
	path, text string
}

// pages returns all documents: templates and those in the root folder.
func pages(t testing.TB) []page {
	t.Helper()
	var all []page
	for _, pattern := range []string{"templates/*.tmpl", "templates/*/*.tmpl", "*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s (%v)", pattern, err)
		}
		for _, file := range files {
			path, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page{path, read(t, path)})
		}
	}
	return all
}

// block is a shell block with the comment before it: <!-- run: SCENE -->, or
// <!-- not run: REASON -->.
var block = regexp.MustCompile("(?s)(?:<!-- (run|not run): ([^>]*) -->\n *)?```(?:shell|sh|bash|console)\n(.*?)\n *```")

// scene returns the shell blocks of a page that belong to scenes, in order.
func scene(t *testing.T, path string, names ...string) string {
	t.Helper()
	var script []string
	for _, match := range block.FindAllStringSubmatch(read(t, path), -1) {
		for _, name := range names {
			if match[1] == "run" && match[2] == name {
				script = append(script, match[3])
			}
		}
	}
	if len(script) == 0 {
		t.Fatalf("%s has no shell blocks to run", path)
	}
	return strings.Join(script, "\n")
}

// Each shell block is run, or says why not.
func TestShellBlocksAreMarked(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		for _, match := range block.FindAllStringSubmatch(page.text, -1) {
			if match[1] == "" {
				t.Errorf("%s: write <!-- run: SCENE --> or <!-- not run: REASON --> before\n%s", page.path, match[3])
			}
		}
	}
}

// The first ten minutes of a new user, as the guide has them.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	const guide = "templates/guides/getting-started.md.tmpl"
	w := newWorkshop(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples/guides/getting-started"))); err != nil {
		t.Fatal(err)
	}
	masked := regexp.MustCompile(`(?m)^masked_key = .*$`).FindString(read(t, guide))
	script := strings.Replace(freePort(scene(t, guide, "server", "terraform")), "terraform plan\n", "terraform init -input=false\nterraform plan\n", 1) +
		"\n[ -z \"$(terraform state list)\" ]\n"
	first, _, ok := strings.Cut(script, "terraform plan -detailed-exitcode")
	if !ok || masked == "" {
		t.Fatal("the guide is not as this test expects")
	}
	script = first + "terraform output | grep -F '" + masked + "'\nterraform plan -detailed-exitcode" + script[len(first)+len("terraform plan -detailed-exitcode"):]
	if err := w.shell(dir, []string{"bash", "-euo", "pipefail", "-c", withTrap(script)}, nil); err != nil {
		t.Fatal(err)
	}
}

// What make install prints: an override, which needs no init, and commands for
// the plugin directory, with which init works.
func TestInstall(t *testing.T) {
	t.Parallel()
	cli := tfrun.Need(t)
	w := newWorkshop(t)
	bin := t.TempDir()
	if err := os.Symlink(cli.PackagePath(filepath.Join(toolsDir, "mirror"), tfrun.Source), filepath.Join(bin, "terraform-provider-byok")); err != nil {
		t.Fatal(err)
	}
	printed, err := exec.Command("bash", filepath.Join(root, "scripts/print-override.sh"), bin).Output()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	override := filepath.Join(home, "override.rc")
	if err := os.WriteFile(override, regexp.MustCompile(`(?ms)^provider_installation \{.*?^\}$`).Find(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, match := range regexp.MustCompile(`(?m)^  ((?:plugins=|mkdir |cp ).*)$`).FindAllStringSubmatch(string(printed), -1) {
		commands = append(commands, match[1])
	}
	if len(commands) != 3 {
		t.Fatalf("commands %q in\n%s", commands, printed)
	}
	for name, test := range map[string]struct{ config, script string }{
		"override":         {override, "terraform validate | tee validated\ngrep 'development overrides' validated\n"},
		"plugin directory": {"/dev/null", strings.ReplaceAll(strings.Join(commands, "\n"), "registry.terraform.io", cli.Host) + "\nterraform init -input=false\nterraform validate\n"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples/guides/getting-started"))); err != nil {
			t.Fatal(err)
		}
		if err := w.shell(dir, []string{"bash", "-euo", "pipefail", "-c", test.script}, map[string]string{"HOME": home, "TF_CLI_CONFIG_FILE": test.config}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The module of the examples, tested as the guide says.
func TestModule(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples/module"))); err != nil {
		t.Fatal(err)
	}
	script := freePort(scene(t, "templates/guides/testing.md.tmpl", "module"))
	if err := w.shell(dir, []string{"bash", "-euo", "pipefail", "-c", withTrap(script)}, nil); err != nil {
		t.Fatal(err)
	}
	// The test of the module fails when the module is wrong.
	file := filepath.Join(dir, "main.tf")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(text), "api_key_wo_version = version", "api_key_wo_version = 1", 1)
	if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "server.env")); err != nil {
		t.Fatal(err)
	}
	if err := w.shell(dir, []string{"bash", "-euo", "pipefail", "-c", withTrap(script)}, nil); err == nil || !strings.Contains(err.Error(), "The new secret is not stored.") {
		t.Errorf("a module that ignores versions: %v", err)
	}
}

// freePort lets the server of a script listen on a port of its own.
func freePort(script string) string {
	return strings.ReplaceAll(script, "byok-server serve ", "byok-server serve --listen 127.0.0.1:0 ")
}

// withTrap stops the server of a script at its end.
func withTrap(script string) string {
	return "trap 'kill $(jobs -p)' EXIT\n" + script
}
