//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/bench/cost"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

const (
	randomSource = "hashicorp/random"
	keysPerPool  = 10
	// planRepeats is how often a plan is made in each round: it changes
	// nothing and takes little.
	planRepeats = 3
)

// step is a command that is timed.
type step struct {
	name    string
	args    []string
	repeats int
}

// steps are in the order in which they run.
var steps = []step{
	{"plan of creates", []string{"plan"}, planRepeats},
	{"apply", []string{"apply", "-auto-approve"}, 1},
	{"no-op plan", []string{"plan", "-detailed-exitcode"}, planRepeats},
	{"destroy", []string{"destroy", "-auto-approve"}, 1},
}

// sample is one step of one round.
type sample struct {
	wall time.Duration
	// whole is terraform and the providers that it started.
	whole cost.Cost
	// provider is its provider processes alone; zero for the floor.
	provider cost.Cost
	requests requests
	// state is the size of the local state afterwards, in bytes.
	state int64
}

// providerBench times Terraform with keys, one by one and in pools, and with as
// many terraform_data resources, which need no provider process: the floor.
type providerBench struct {
	cli     tfrun.CLI
	bin     string
	random  string // binary of terraform-provider-random; "" to leave it out
	profile string // folder for profiles; "" for none
	log     io.Writer
	dir     string
}

// scenario is one size at one distance.
type scenario struct {
	keys    int
	latency time.Duration
	rounds  int
	// scale adds the contestants that only show the scale of things.
	scale bool
}

// contestant is a configuration that goes through all steps.
type contestant struct {
	name, config string
	// addsScale marks those of which one round in one scenario is enough.
	addsScale bool
}

const floorName, byokName, poolName = "terraform_data, the floor", "byok_key", "byok_pool"

// contestants run each step in this order.
func (b *providerBench) contestants(sc scenario) (all []contestant) {
	for _, c := range []contestant{
		{floorName, floorConfig, false},
		{"terraform_data with as much state as byok_key", sameConfig, true},
		{"terraform_data with as much state as byok_pool", nestedConfig, true},
		{"random_id, a provider without an API", randomConfig, true},
		{byokName, byokConfig, false},
		{poolName, poolConfig, false},
	} {
		if (!c.addsScale || sc.scale) && (c.config != randomConfig || b.random != "") {
			all = append(all, c)
		}
	}
	return all
}

// results are samples by contestant and step.
type results map[string]map[string][]sample

func (r results) add(contestant, step string, s sample) {
	if r[contestant] == nil {
		r[contestant] = map[string][]sample{}
	}
	r[contestant][step] = append(r[contestant][step], s)
}

// run returns a table of all scenarios, and one of all contestants in the
// first.
func (b *providerBench) run(ctx context.Context, scenarios []scenario) (times, scale *table, err error) {
	times = &table{header: []string{"keys", "latency", "step", "resource", "floor", "time", "/ floor", "CPU / floor", "CPU of the provider", "its peak memory", "requests"}}
	plugins, err := b.install(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, sc := range scenarios {
		got, err := b.scenario(ctx, plugins, sc)
		if err != nil {
			return nil, nil, fmt.Errorf("%d keys, %s: %w", sc.keys, sc.latency, err)
		}
		for _, step := range steps {
			for _, name := range []string{byokName, poolName} {
				floor, byok := got[floorName][step.name], got[name][step.name]
				times.add(fmt.Sprint(sc.keys), fmt.Sprintf("%d ms", sc.latency.Milliseconds()), step.name, name,
					inSeconds(wall(floor)), inSeconds(wall(byok)), ratio(wall(byok), wall(floor)), ratio(cpu(byok), cpu(floor)),
					inSeconds(providerCPU(byok)), inMegabytes(memory(byok)), byok[0].requests.String())
			}
		}
		if sc.scale {
			scale = b.scaleOf(sc, got)
		}
	}
	return times, scale, nil
}

// scaleOf tells the contestants of a scenario apart.
func (b *providerBench) scaleOf(sc scenario, got results) *table {
	t := &table{header: []string{fmt.Sprintf("%d of", sc.keys), "local state"}}
	for _, step := range steps {
		t.header = append(t.header, step.name)
	}
	for _, c := range b.contestants(sc) {
		row := []string{c.name, inKilobytes(got[c.name]["no-op plan"][0].state)}
		for _, step := range steps {
			took, floor := got[c.name][step.name], got[floorName][step.name]
			row = append(row, fmt.Sprintf("%s (%s, CPU %s)", inSeconds(wall(took)), ratio(wall(took), wall(floor)), ratio(cpu(took), cpu(floor))))
		}
		t.add(row...)
	}
	return t
}

// scenario returns what each step of each contestant cost.
func (b *providerBench) scenario(ctx context.Context, plugins string, sc scenario) (got results, err error) {
	dir, err := os.MkdirTemp(b.dir, "scenario")
	if err != nil {
		return nil, err
	}
	// byok_key and byok_pool exist at the same time, each in workspaces of its own.
	pools := (sc.keys + keysPerPool - 1) / keysPerPool
	server, err := startServer(ctx, b.bin, dir, "sqlite:"+filepath.Join(dir, "byok.db"), 2*pools)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	endpoint := server.URL
	if sc.latency > 0 {
		r, err := startRelay(ctx, strings.TrimPrefix(server.URL, "http://"), sc.latency)
		if err != nil {
			return nil, err
		}
		defer r.close()
		endpoint = r.url()
	}
	got = results{}
	for round := range sc.rounds {
		folders := map[string]*folder{}
		for i, c := range b.contestants(sc) {
			if c.addsScale && round > 0 {
				continue // once is enough, for they take longest
			}
			workspaces := server.workspaces[:pools]
			if c.name == poolName {
				workspaces = server.workspaces[pools:]
			}
			variables, err := json.Marshal(map[string]any{"n": sc.keys, "workspaces": workspaces})
			if err != nil {
				return nil, err
			}
			folders[c.name], err = b.folder(ctx, plugins, filepath.Join(dir, fmt.Sprintf("%d-%d", i, round)), c.config, variables, endpoint)
			if err != nil {
				return nil, err
			}
		}
		for _, step := range steps {
			for range step.repeats {
				for _, c := range b.contestants(sc) {
					if folders[c.name] == nil {
						continue
					}
					s, err := b.timed(ctx, server, folders[c.name], step)
					if err != nil {
						return nil, err
					}
					got.add(c.name, step.name, s)
					fmt.Fprintf(b.log, "%d keys, %s, round %d, %s, %s: %s, CPU %s, of it the provider's %s (%s) %s\n", sc.keys, sc.latency, round+1,
						step.name, c.name, inSeconds(s.wall), inSeconds(s.whole.CPU), inSeconds(s.provider.CPU), inMegabytes(s.provider.Memory), s.requests)
				}
			}
		}
	}
	return got, nil
}

// timed runs a step once.
func (b *providerBench) timed(ctx context.Context, server *byokServer, in *folder, w step) (sample, error) {
	before, err := server.counts(ctx)
	if err != nil {
		return sample{}, err
	}
	s, err := in.terraform(ctx, w.args...)
	if err != nil {
		return sample{}, err
	}
	after, err := server.counts(ctx)
	s.requests = after.since(before)
	return s, err
}

// install lays the providers out as a registry's packages and returns the
// mirror.
func (b *providerBench) install(ctx context.Context) (string, error) {
	mirror := filepath.Join(b.dir, "mirror")
	if b.random != "" {
		if err := b.pack(ctx, mirror, randomSource, b.random); err != nil {
			return "", err
		}
	}
	binary := filepath.Join(b.bin, "terraform-provider-byok")
	if b.profile != "" {
		binary = filepath.Join(b.dir, "profiled")
		if err := build(ctx, benchPackage+"profile", binary); err != nil {
			return "", err
		}
	}
	return mirror, b.pack(ctx, mirror, tfrun.Source, binary)
}

const benchPackage = "github.com/terraform-provider-byok/terraform-provider-byok/internal/bench/"

// pack puts a provider into the mirror: the meter under the provider's name,
// the provider beside it.
func (b *providerBench) pack(ctx context.Context, mirror, source, binary string) error {
	pkg := b.cli.PackagePath(mirror, source)
	if err := os.MkdirAll(filepath.Dir(pkg), 0o700); err != nil {
		return err
	}
	if err := build(ctx, benchPackage+"meter", pkg); err != nil {
		return err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(filepath.Dir(pkg), "provider"), data, 0o700)
}

func build(ctx context.Context, pkg, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// The configurations use count: Terraform evaluates for_each once per
// instance, so that with a large map it would measure little else.
const floorConfig = `
variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "terraform_data" "this" {
  count = var.n
  input = "key-${count.index}"
}
`

// terraform_data stores its input twice, with its type, so that these texts
// make about as many bytes as a key does.
const sameConfig = `
variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "terraform_data" "this" {
  count = var.n
  input = {
    workspace_id = var.workspaces[floor(count.index / 10)]
    id           = "V1StGXR8_Z5jdHi6B-myT"
    name         = "key-${count.index}"
  }
}
`

// nestedConfig is what a plan of pools costs Terraform alone: as many resources
// as byok_pool has, with the values of ten keys in each.
const nestedConfig = `
variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "terraform_data" "this" {
  count = ceil(var.n / 10)
  input = {
    for i in range(count.index * 10, min(var.n, count.index * 10 + 10)) :
    "key-${i}" => {
      id         = "V1StGXR8_Z5jdHi6B-myT"
      name       = "key-${i}"
      masked_key = "sk-ben...${i}"
      created_at = "2026-01-02T03:04:05.678Z"
    }
  }
}
`

const randomConfig = `
terraform {
  required_providers {
    random = { source = "hashicorp/random" }
  }
}

variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "random_id" "this" {
  count       = var.n
  byte_length = 8
  prefix      = "key-${count.index}-"
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

const poolConfig = `
terraform {
  required_providers {
    byok = { source = "terraform-provider-byok/byok" }
  }
}

variable "n" { type = number }

variable "workspaces" { type = list(string) }

resource "byok_pool" "this" {
  count        = ceil(var.n / 10)
  workspace_id = var.workspaces[count.index]
  provider_id  = "openai"
  keys = {
    for i in range(count.index * 10, min(var.n, count.index * 10 + 10)) :
    "key-${i}" => { api_key_wo = "sk-bench-0123456789abcdef0123456789abcdef-${i}" }
  }
}
`

// folder is a Terraform configuration with its state.
type folder struct {
	*tfrun.Folder
	meter string
}

func (b *providerBench) folder(ctx context.Context, mirror, dir, config string, variables []byte, endpoint string) (f *folder, err error) {
	f = &folder{meter: filepath.Join(dir, "meter.jsonl")}
	f.Folder, err = b.cli.Folder(dir, b.cli.Mirror(mirror), "BYOK_ENDPOINT="+endpoint, "BYOK_EMAIL="+email, "BYOK_PASSWORD="+password,
		"BYOK_BENCH_METER="+f.meter, "BYOK_PROFILE_DIR="+b.profile)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"main.tf": config, "terraform.tfvars.json": string(variables)} {
		if err := os.WriteFile(filepath.Join(f.Dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	_, err = f.terraform(ctx, "init")
	return f, err
}

// terraform runs a command to its end and returns what it cost.
func (f *folder) terraform(ctx context.Context, args ...string) (sample, error) {
	_ = os.Remove(f.meter)
	start := time.Now()
	result, err := f.Exec(ctx, append(args, "-no-color")...)
	s := sample{wall: time.Since(start)}
	if err == nil && result.Exit != 0 {
		err = fmt.Errorf("%s ended with %d:\n%s", result, result.Exit, result.Output[max(0, len(result.Output)-3000):])
	}
	if err != nil {
		return s, err
	}
	s.whole = cost.Of(result.Process)
	if info, err := os.Stat(filepath.Join(f.Dir, "terraform.tfstate")); err == nil {
		s.state = info.Size() // there is none before the first apply
	}
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
