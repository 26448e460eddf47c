package tfrun

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

const (
	// Source is the provider's address without its host.
	Source = "terraform-provider-byok/byok"

	terraformHost  = "registry.terraform.io"
	openTofuHost   = "registry.opentofu.org"
	mirrorVersion  = "0.0.1"
	chooseVariable = "TERRAFORM"
)

// CLI is a terraform or tofu binary.
type CLI struct {
	Path string
	// Host is the registry of source addresses that name none.
	Host string
}

// Find returns the binary that the environment variable TERRAFORM names, or
// else the first of terraform and tofu on the PATH.
var Find = sync.OnceValues(func() (CLI, error) {
	names := []string{"terraform", "tofu"}
	if chosen := os.Getenv(chooseVariable); chosen != "" {
		names = []string{chosen}
	}
	for _, name := range names {
		found, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if found, err = filepath.Abs(found); err != nil {
			return CLI{}, err
		}
		cmd := exec.Command(found, "version")
		cmd.Env = CleanEnv()
		said, err := cmd.Output()
		if err != nil {
			return CLI{}, fmt.Errorf("%s version: %w", found, err)
		}
		host := terraformHost
		if strings.HasPrefix(string(said), "OpenTofu") {
			host = openTofuHost
		}
		return CLI{Path: found, Host: cmp.Or(os.Getenv("TF_ACC_PROVIDER_HOST"), host)}, nil
	}
	return CLI{}, fmt.Errorf("cannot find %s: install Terraform 1.11 or OpenTofu 1.11, or later, or name the binary in %s",
		strings.Join(names, " or "), chooseVariable)
})

// Name is the command that a user types: terraform or tofu.
func (c CLI) Name() string {
	if c.IsOpenTofu() {
		return "tofu"
	}
	return "terraform"
}

// IsOpenTofu reports whether the binary is OpenTofu.
func (c CLI) IsOpenTofu() bool { return c.Host == openTofuHost }

// Address is the full address of a provider, as in
// registry.terraform.io/hashicorp/random.
func (c CLI) Address(source string) string { return c.Host + "/" + source }

// PackagePath is where a filesystem mirror holds the binary of a provider.
func (c CLI) PackagePath(mirror, source string) string {
	return filepath.Join(mirror, c.Address(source), mirrorVersion, runtime.GOOS+"_"+runtime.GOARCH,
		"terraform-provider-"+path.Base(source)+"_v"+mirrorVersion)
}

// Mirror is a CLI configuration that installs every provider from a
// filesystem mirror.
func (c CLI) Mirror(dir string) string {
	return fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", dir)
}

// Override is a CLI configuration that takes the provider from a folder,
// without init.
func (c CLI) Override(dir string) string {
	return fmt.Sprintf("provider_installation {\n  dev_overrides {\n    %q = %q\n  }\n  direct {}\n}\n", c.Address(Source), dir)
}

// CleanEnv is the environment without what configures Terraform, the provider
// or the server.
func CleanEnv() []string {
	var kept []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "TF_"), strings.HasPrefix(name, "BYOK_"):
		case name == "ENCRYPTION_KEY", name == "BETTER_AUTH_SECRET", name == "INTERNAL_API_SECRET", name == "DISABLE_AUTH":
		default:
			kept = append(kept, entry)
		}
	}
	return kept
}

// Folder prepares a folder in dir whose commands use a CLI configuration, with
// env in their environment.
func (c CLI) Folder(dir, configuration string, env ...string) (*Folder, error) {
	f := &Folder{Dir: filepath.Join(dir, "config"), Timeout: defaultTimeout, cli: c, rc: filepath.Join(dir, "terraform.rc")}
	f.Env = append([]string{"TF_CLI_CONFIG_FILE=" + f.rc, "TF_INPUT=0", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1"}, env...)
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return nil, err
	}
	return f, f.Configure(configuration)
}
