// Package tfrun runs the real terraform binary with the provider just built,
// one process per walk, as a user's shell would: the acceptance framework
// keeps one provider for all walks, passes no flags, and shows no output. Only
// tests and benchmarks import it.
package tfrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Folder is a folder with a configuration and its state.
type Folder struct {
	Dir string
	// Env is added to the environment of every command.
	Env []string
	// Timeout ends a command that hangs.
	Timeout time.Duration
}

// Result is what a command did. Output is standard output and error together.
type Result struct {
	Args   []string
	Exit   int
	Output string
}

// providerDir is where provider has built, empty before; Run removes it.
var providerDir string

// provider builds the provider once per test binary.
var provider = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "byok-provider-")
	if err != nil {
		return "", err
	}
	providerDir = dir
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "terraform-provider-byok"),
		"github.com/terraform-provider-byok/terraform-provider-byok")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// Run runs the tests of a package and removes the provider that they built.
func Run(m *testing.M) int {
	code := m.Run()
	if providerDir != "" {
		_ = os.RemoveAll(providerDir)
	}
	return code
}

// New returns an empty folder whose commands use the provider just built, with
// env in their environment. Like an acceptance test, it needs TF_ACC and
// terraform on the PATH; where they are missing it skips the test, or fails it
// under CI=true.
func New(t testing.TB, env ...string) *Folder {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil || os.Getenv("TF_ACC") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("terraform is not on the PATH, or TF_ACC is not set")
		}
		t.Skip("NOT RUN: TF_ACC is not set, or terraform is not on the PATH")
	}
	bin, err := provider()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &Folder{Dir: filepath.Join(dir, "config"), Timeout: 5 * time.Minute}
	if err := os.Mkdir(f.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(dir, "terraform.rc")
	override := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"registry.terraform.io/terraform-provider-byok/byok\" = %q\n  }\n  direct {}\n}\n", bin)
	if err := os.WriteFile(rc, []byte(override), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Env = append([]string{"TF_CLI_CONFIG_FILE=" + rc, "TF_INPUT=0", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1"}, env...)
	f.Write(t, "terraform.tf", `terraform {
  required_providers {
    byok = { source = "terraform-provider-byok/byok" }
  }
}
`)
	return f
}

// Write writes a file of the configuration.
func (f *Folder) Write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Command returns a terraform command, not yet started, for a test that sends
// signals or measures.
func (f *Folder) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "terraform", append([]string{"-chdir=" + f.Dir}, args...)...)
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "TF_") && !strings.HasPrefix(entry, "BYOK_") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, f.Env...)
	return cmd
}

// Try runs terraform and returns what it did, whatever that was.
func (f *Folder) Try(t testing.TB, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), f.Timeout)
	defer cancel()
	out, err := f.Command(ctx, args...).CombinedOutput()
	result := Result{Args: args, Output: string(out)}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		result.Exit = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("terraform %s: %v", strings.Join(args, " "), err)
	}
	return result
}

// Must runs terraform and fails the test unless it succeeded.
func (f *Folder) Must(t testing.TB, args ...string) Result {
	t.Helper()
	result := f.Try(t, args...)
	if result.Exit != 0 {
		t.Fatalf("terraform %s ended with %d:\n%s", strings.Join(args, " "), result.Exit, result.Output)
	}
	return result
}

// Apply applies without asking.
func (f *Folder) Apply(t testing.TB, args ...string) Result {
	t.Helper()
	return f.Must(t, append([]string{"apply", "-auto-approve", "-no-color"}, args...)...)
}

// Destroy destroys everything in state without asking.
func (f *Folder) Destroy(t testing.TB, args ...string) Result {
	t.Helper()
	return f.Must(t, append([]string{"destroy", "-auto-approve", "-no-color"}, args...)...)
}

// Plan plans and returns the result: exit 0 for no changes, 1 for an error, 2
// for changes.
func (f *Folder) Plan(t testing.TB, args ...string) Result {
	t.Helper()
	return f.Try(t, append([]string{"plan", "-detailed-exitcode", "-no-color"}, args...)...)
}

// State returns the attributes of every instance in state by address.
func (f *Folder) State(t testing.TB) map[string]map[string]any {
	t.Helper()
	var shown struct {
		Values struct {
			RootModule struct {
				Resources []struct {
					Address string         `json:"address"`
					Values  map[string]any `json:"values"`
				} `json:"resources"`
			} `json:"root_module"`
		} `json:"values"`
	}
	ctx, cancel := context.WithTimeout(t.Context(), f.Timeout)
	defer cancel()
	out, err := f.Command(ctx, "show", "-json").Output()
	if err != nil {
		t.Fatalf("terraform show: %v", err)
	}
	if err := json.Unmarshal(out, &shown); err != nil {
		t.Fatalf("terraform show: %v", err)
	}
	state := map[string]map[string]any{}
	for _, resource := range shown.Values.RootModule.Resources {
		state[resource.Address] = resource.Values
	}
	return state
}
