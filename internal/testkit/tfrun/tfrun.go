// Package tfrun runs the real terraform or tofu binary, one process per
// command, as a user's shell would: the acceptance test framework keeps one
// provider for all commands, passes no flags, and shows no output. The
// environment variable TERRAFORM chooses the binary. Only tests and tools
// import it.
package tfrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	defaultTimeout = 5 * time.Minute

	// withoutTLS saves certificates that each command and each provider process
	// make for one another: two fifths of the CPU of a plan. The demo, the
	// benchmark and the commands of the documents run as users run them.
	withoutTLS = "TF_DISABLE_PLUGIN_TLS=1"
)

// Folder is a folder with a configuration and its state.
type Folder struct {
	Dir string
	// Env is added to the environment of every command.
	Env []string
	// Timeout ends a command of a test that hangs.
	Timeout time.Duration

	cli CLI
	rc  string // file of the CLI configuration
}

// Result is what a command did. Output is standard output and error together.
type Result struct {
	Args    []string
	Exit    int
	Output  string
	Process *os.ProcessState
}

// Built names a folder with binaries of the provider and of byok-server that are
// up to date, so that each test binary need not build its own; empty if there
// is none.
func Built() string { return os.Getenv("BYOK_TEST_BIN") }

// providerDir is where provider has built, empty before; Run removes it.
var providerDir string

// provider builds the provider once per test binary.
var provider = sync.OnceValues(func() (string, error) {
	if dir := Built(); dir != "" {
		return dir, nil
	}
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

// Install puts the provider, just built, into a filesystem mirror.
func (c CLI) Install(mirror string) error {
	bin, err := provider()
	if err != nil {
		return err
	}
	target := c.PackagePath(mirror, Source)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(bin, "terraform-provider-byok"), target)
}

// Run runs the tests of a package and removes the provider that they built.
// The acceptance test framework uses the same binary as this package.
func Run(m *testing.M) int {
	if cli, err := Find(); err == nil {
		for name, value := range map[string]string{"TF_ACC_TERRAFORM_PATH": cli.Path, "TF_ACC_PROVIDER_HOST": cli.Host, "TF_ACC_PROVIDER_NAMESPACE": "hashicorp"} {
			if os.Getenv(name) != "" {
				continue
			}
			if err := os.Setenv(name, value); err != nil {
				panic(err)
			}
		}
	}
	code := m.Run()
	if providerDir != "" {
		_ = os.RemoveAll(providerDir)
	}
	return code
}

// Need returns the binary. Like an acceptance test, it needs TF_ACC; where that
// or the binary is missing it skips the test, or fails it under CI=true.
func Need(t testing.TB) CLI {
	t.Helper()
	cli, err := Find()
	if err == nil && os.Getenv("TF_ACC") == "" {
		err = errors.New("TF_ACC is not set")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("NOT RUN: %v", err)
	}
	return cli
}

// New returns a folder whose configuration requires the provider, just built,
// with env in the environment of its commands.
func New(t testing.TB, env ...string) *Folder {
	t.Helper()
	f := Empty(t, env...)
	bin, err := provider()
	if err == nil {
		err = f.Configure(f.cli.Override(bin))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Write(t, "terraform.tf", fmt.Sprintf("terraform {\n  required_providers {\n    byok = { source = %q }\n  }\n}\n", Source))
	return f
}

// Empty returns a folder without a configuration or a provider.
func Empty(t testing.TB, env ...string) *Folder {
	t.Helper()
	f, err := Need(t).Folder(t.TempDir(), "", append([]string{withoutTLS}, env...)...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// CLI is the binary that the folder's commands run.
func (f *Folder) CLI() CLI { return f.cli }

// Configure replaces the CLI configuration.
func (f *Folder) Configure(text string) error { return os.WriteFile(f.rc, []byte(text), 0o600) }

// Write writes a file of the configuration.
func (f *Folder) Write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Command returns a command, not yet started, for a test that sends signals or
// looks at standard output alone.
func (f *Folder) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, f.cli.Path, append([]string{"-chdir=" + f.Dir}, args...)...)
	cmd.Env = append(CleanEnv(), f.Env...)
	return cmd
}

// Exec runs a command and returns what it did; the error is that it could not
// be run.
func (f *Folder) Exec(ctx context.Context, args ...string) (Result, error) {
	cmd := f.Command(ctx, args...)
	out, err := cmd.CombinedOutput()
	result := Result{Args: args, Output: string(out), Process: cmd.ProcessState}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		result.Exit = exit.ExitCode()
	} else if err != nil {
		return result, fmt.Errorf("%s: %w", result, err)
	}
	return result, nil
}

// String is the command.
func (r Result) String() string { return "terraform " + strings.Join(r.Args, " ") }

// Try runs a command and returns what it did, whatever that was.
func (f *Folder) Try(t testing.TB, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), f.Timeout)
	defer cancel()
	result, err := f.Exec(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// Must runs a command and fails the test unless it succeeded.
func (f *Folder) Must(t testing.TB, args ...string) Result {
	t.Helper()
	result := f.Try(t, args...)
	if result.Exit != 0 {
		t.Fatalf("%s ended with %d:\n%s", result, result.Exit, result.Output)
	}
	return result
}

// Stdout is Must for a command whose standard output alone counts.
func (f *Folder) Stdout(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), f.Timeout)
	defer cancel()
	out, err := f.Command(ctx, args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", Result{Args: args}, err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return string(out)
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
	if err := json.Unmarshal([]byte(f.Stdout(t, "show", "-json")), &shown); err != nil {
		t.Fatalf("terraform show: %v", err)
	}
	state := map[string]map[string]any{}
	for _, resource := range shown.Values.RootModule.Resources {
		state[resource.Address] = resource.Values
	}
	return state
}

// Instance is an instance of a managed resource in the state file.
type Instance struct {
	Type, Name string
	// Status is empty unless the instance is tainted.
	Status     string
	Attributes json.RawMessage
}

// Instances reads the state file, which is quicker than State.
func (f *Folder) Instances(t testing.TB) (all []Instance) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.Dir, "terraform.tfstate"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var state struct {
		Resources []struct {
			Mode, Type, Name string
			Instances        []Instance
		}
	}
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range state.Resources {
		if resource.Mode != "managed" {
			continue
		}
		for _, instance := range resource.Instances {
			instance.Type, instance.Name = resource.Type, resource.Name
			all = append(all, instance)
		}
	}
	return all
}
