//go:build unix

// Command bench measures the provider and the reference server and prints what
// it finds as tables, with ratios. It builds nothing but its own helpers: the
// two programs come from -bin, where `make build` puts them. `make bench` runs
// it in full, on a machine that does nothing else; without flags it measures 100
// keys in one round, and a store of 1,000 workspaces.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	bin := flag.String("bin", "bin", "folder with terraform-provider-byok and byok-server")
	only := flag.String("only", "provider,server", "what to measure")
	keys := flag.String("keys", "100", "provider: numbers of keys, with commas")
	latencies := flag.String("latency", "0s,50ms", "provider: distances to the server, with commas")
	rounds := flag.Int("rounds", 1, "provider: rounds at the first size and distance; all others have one, with three plans of each kind")
	random := flag.String("random", "", "provider: binary of terraform-provider-random, to compare with")
	profile := flag.String("profile", "", "provider: folder for pprof profiles of every process; slows it down")
	duration := flag.Duration("duration", 300*time.Millisecond, "server: how long each operation is repeated")
	clients := flag.Int("clients", 16, "server: clients at once")
	crowd := flag.Int("crowd", 1000, "server: workspaces in the large store, of ten keys each")
	bare := flag.String("bare", "", "for the program itself: serve what is in this folder, to compare with")
	flag.Parse()
	if *bare != "" {
		return serveBare(*bare)
	}

	dir, err := os.MkdirTemp("", "byok-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println(machine())
	if strings.Contains(*only, "provider") {
		scenarios, err := scenariosOf(*keys, *latencies, *rounds)
		if err != nil {
			return err
		}
		if *profile != "" {
			if *profile, err = filepath.Abs(*profile); err != nil {
				return err
			}
			if err := os.MkdirAll(*profile, 0o700); err != nil {
				return err
			}
		}
		cli, err := tfrun.Find()
		if err != nil {
			return err
		}
		b := &providerBench{cli: cli, bin: *bin, random: *random, profile: *profile, log: os.Stderr, dir: dir}
		times, scale, err := b.run(ctx, scenarios)
		if err != nil {
			return err
		}
		start, err := b.startUp(ctx, 20)
		if err != nil {
			return err
		}
		fmt.Print("\n### The provider\n\n")
		times.print(os.Stdout)
		fmt.Println()
		scale.print(os.Stdout)
		fmt.Println("\n" + start)
	}
	if strings.Contains(*only, "server") {
		syncs, err := fsync(dir, 300)
		if err != nil {
			return err
		}
		b := &serverBench{bin: *bin, dir: dir, log: os.Stderr, duration: *duration, clients: *clients, crowd: *crowd}
		t, err := b.run(ctx)
		if err != nil {
			return err
		}
		fmt.Print("\n### The server\n\n")
		t.print(os.Stdout)
		fmt.Printf("\nThe rotation alone takes %s.\n", rotationAlone())
		fmt.Printf("\nThe disk itself takes %s (p50), %s (p99) to make 4 KiB durable: no add, replace or delete can be faster.\n",
			inMilliseconds(percentile(syncs, 50)), inMilliseconds(percentile(syncs, 99)))
	}
	return nil
}

// scenariosOf crosses sizes and distances. Only the first has several rounds:
// a large apply takes minutes.
func scenariosOf(keys, latencies string, rounds int) ([]scenario, error) {
	sizes, err := numbers(keys)
	if err != nil {
		return nil, err
	}
	var scenarios []scenario
	for _, text := range strings.Split(latencies, ",") {
		latency, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		for _, n := range sizes {
			first := len(scenarios) == 0
			sc := scenario{keys: n, latency: latency, rounds: 1, scale: first}
			if first {
				sc.rounds = rounds
			}
			scenarios = append(scenarios, sc)
		}
	}
	return scenarios, nil
}

func numbers(text string) ([]int, error) {
	var all []int
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number of keys", part)
		}
		all = append(all, n)
	}
	return all, nil
}

// machine says where the numbers come from.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := ""
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = ", load " + strings.Fields(string(text))[0] + " at the start"
	}
	return fmt.Sprintf("%s, %s, %d cores (%s)%s", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.NumCPU(), model, load)
}
