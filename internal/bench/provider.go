//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/bench/cost"
)

const (
	providerAddress = "registry.terraform.io/terraform-provider-byok/byok"
	keysPerPool     = 10
)

// The walks that are timed, in the order in which they run.
var walks = []struct {
	name string
	args []string
}{
	{"plan of creates", []string{"plan"}},
	{"apply", []string{"apply", "-auto-approve"}},
	{"no-op plan", []string{"plan", "-detailed-exitcode"}},
	{"destroy", []string{"destroy", "-auto-approve"}},
}

// sample is one walk of one round.
type sample struct {
	wall time.Duration
	// whole is terraform and the providers that it started.
	whole cost.Cost
	// provider is its provider processes alone; zero for the floor.
	provider cost.Cost
	requests requests
}

// providerBench times Terraform with as many keys, and with as many
// terraform_data resources, which need no provider process: the floor.
type providerBench struct {
	bin     string
	profile string // folder for profiles; "" for none
	log     io.Writer
	dir     string
}

// scenario is one size at one distance.
type scenario struct {
	keys    int
	latency time.Duration
	rounds  int
}

// run returns a table of all scenarios.
func (b *providerBench) run(ctx context.Context, scenarios []scenario) (*table, error) {
	t := &table{header: []string{"keys", "latency", "walk", "terraform_data", "byok_key", "ratio", "CPU, ratio", "CPU of the provider", "its peak memory", "requests"}}
	plugins, err := b.install(ctx)
	if err != nil {
		return nil, err
	}
	for _, sc := range scenarios {
		floor, byok, err := b.scenario(ctx, plugins, sc)
		if err != nil {
			return nil, fmt.Errorf("%d keys, %s: %w", sc.keys, sc.latency, err)
		}
		for i, walk := range walks {
			f, k := floor[i], byok[i]
			last := k[len(k)-1]
			t.add(fmt.Sprint(sc.keys), fmt.Sprintf("%d ms", sc.latency.Milliseconds()), walk.name,
				inSeconds(wall(f)), inSeconds(wall(k)), ratio(wall(k), wall(f)), ratio(cpu(k), cpu(f)),
				inSeconds(providerCPU(k)), inMegabytes(memory(k)), last.requests.String())
		}
	}
	return t, nil
}

func (b *providerBench) scenario(ctx context.Context, plugins string, sc scenario) (floor, byok [][]sample, err error) {
	dir, err := os.MkdirTemp(b.dir, "scenario")
	if err != nil {
		return nil, nil, err
	}
	server, err := startServer(ctx, b.bin, dir, "sqlite:"+filepath.Join(dir, "byok.db"), (sc.keys+keysPerPool-1)/keysPerPool)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	endpoint := server.url
	if sc.latency > 0 {
		r, err := startRelay(ctx, strings.TrimPrefix(server.url, "http://"), sc.latency)
		if err != nil {
			return nil, nil, err
		}
		defer r.close()
		endpoint = r.url()
	}
	variables, err := json.Marshal(map[string]any{"n": sc.keys, "workspaces": server.workspaces})
	if err != nil {
		return nil, nil, err
	}
	floor, byok = make([][]sample, len(walks)), make([][]sample, len(walks))
	for round := range sc.rounds {
		folders := map[string]*folder{}
		for name, config := range map[string]string{"floor": floorConfig, "byok": byokConfig} {
			folders[name], err = b.folder(ctx, plugins, filepath.Join(dir, fmt.Sprintf("%s-%d", name, round)), config, variables, endpoint)
			if err != nil {
				return nil, nil, err
			}
		}
		for i, walk := range walks {
			f, err := folders["floor"].terraform(ctx, walk.args...)
			if err != nil {
				return nil, nil, err
			}
			before, err := server.counts(ctx)
			if err != nil {
				return nil, nil, err
			}
			k, err := folders["byok"].terraform(ctx, walk.args...)
			if err != nil {
				return nil, nil, err
			}
			after, err := server.counts(ctx)
			if err != nil {
				return nil, nil, err
			}
			k.requests = after.since(before)
			floor[i], byok[i] = append(floor[i], f), append(byok[i], k)
			fmt.Fprintf(b.log, "%d keys, %s, round %d, %s: floor %s (CPU %s), byok %s (CPU %s, %s of it the provider's; %s), %s\n",
				sc.keys, sc.latency, round+1, walk.name, inSeconds(f.wall), inSeconds(f.whole.CPU),
				inSeconds(k.wall), inSeconds(k.whole.CPU), inSeconds(k.provider.CPU), inMegabytes(k.provider.Memory), k.requests)
		}
	}
	return floor, byok, nil
}

// install lays the provider out as a registry's package: the meter under the
// provider's name, the provider beside it. It returns the mirror.
func (b *providerBench) install(ctx context.Context) (string, error) {
	mirror := filepath.Join(b.dir, "mirror")
	pkg := filepath.Join(mirror, providerAddress, "0.0.1", runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(pkg, 0o700); err != nil {
		return "", err
	}
	const bench = "github.com/terraform-provider-byok/terraform-provider-byok/internal/bench/"
	if err := build(ctx, bench+"meter", filepath.Join(pkg, "terraform-provider-byok_v0.0.1")); err != nil {
		return "", err
	}
	if b.profile != "" {
		return mirror, build(ctx, bench+"profile", filepath.Join(pkg, "provider"))
	}
	data, err := os.ReadFile(filepath.Join(b.bin, "terraform-provider-byok"))
	if err != nil {
		return "", err
	}
	return mirror, os.WriteFile(filepath.Join(pkg, "provider"), data, 0o700)
}

func build(ctx context.Context, pkg, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Both configurations use count: Terraform evaluates for_each once per
// instance, so that with a large map it would measure little else.
const floorConfig = `
variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "terraform_data" "this" {
  count = var.n
  input = "key-${count.index}"
}
`

const byokConfig = `
terraform {
  required_providers {
    byok = { source = "terraform-provider-byok/byok" }
  }
}

variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "byok_key" "this" {
  count        = var.n
  workspace_id = var.workspaces[floor(count.index / 10)]
  provider_id  = "openai"
  name         = "key-${count.index}"
  api_key_wo   = "sk-bench-0123456789abcdef0123456789abcdef-${count.index}"
}
`

// folder is a Terraform configuration with its state.
type folder struct {
	dir   string
	env   []string
	meter string
}

func (b *providerBench) folder(ctx context.Context, mirror, dir, config string, variables []byte, endpoint string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	rc := filepath.Join(dir, "terraform.rc")
	f := &folder{dir: dir, meter: filepath.Join(dir, "meter.jsonl")}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "TF_") && !strings.HasPrefix(entry, "BYOK_") {
			f.env = append(f.env, entry)
		}
	}
	f.env = append(f.env, "TF_CLI_CONFIG_FILE="+rc, "TF_INPUT=0", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1",
		"BYOK_ENDPOINT="+endpoint, "BYOK_EMAIL="+email, "BYOK_PASSWORD="+password,
		"BYOK_BENCH_METER="+f.meter, "BYOK_PROFILE_DIR="+b.profile)
	for name, text := range map[string]string{
		"main.tf": config, "terraform.tfvars.json": string(variables),
		"terraform.rc": fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	_, err := f.terraform(ctx, "init")
	return f, err
}

// terraform runs a command to its end and returns what it cost.
func (f *folder) terraform(ctx context.Context, args ...string) (sample, error) {
	_ = os.Remove(f.meter)
	cmd := exec.CommandContext(ctx, "terraform", append([]string{"-chdir=" + f.dir}, append(args, "-no-color")...)...)
	cmd.Env = f.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	s := sample{wall: time.Since(start)}
	if err != nil {
		text := out.String()
		return s, fmt.Errorf("terraform %s: %w\n%s", strings.Join(args, " "), err, text[max(0, len(text)-3000):])
	}
	s.whole = cost.Of(cmd.ProcessState)
	s.provider, err = readMeter(f.meter)
	return s, err
}

// readMeter adds up what the provider processes of a command cost.
func readMeter(path string) (cost.Cost, error) {
	var sum cost.Cost
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return sum, nil // the floor
	}
	if err != nil {
		return sum, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var c cost.Cost
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return sum, err
		}
		sum.CPU += c.CPU
		sum.Memory = max(sum.Memory, c.Memory)
	}
	return sum, lines.Err()
}

func wall(samples []sample) time.Duration {
	return medianOf(samples, func(s sample) time.Duration { return s.wall })
}

func cpu(samples []sample) time.Duration {
	return medianOf(samples, func(s sample) time.Duration { return s.whole.CPU })
}

func providerCPU(samples []sample) time.Duration {
	return medianOf(samples, func(s sample) time.Duration { return s.provider.CPU })
}

func memory(samples []sample) int64 {
	var peak int64
	for _, s := range samples {
		peak = max(peak, s.provider.Memory)
	}
	return peak
}

func medianOf(samples []sample, of func(sample) time.Duration) time.Duration {
	var values []time.Duration
	for _, s := range samples {
		values = append(values, of(s))
	}
	return median(values)
}
