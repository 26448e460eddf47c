//go:build unix

// Command bench measures the provider and the reference server and prints what
// it finds as tables, with ratios. It builds nothing but its own helpers: the
// two programs come from -bin, as released. `make bench` runs it in full;
// without flags it is small enough to try.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
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
	keys := flag.String("keys", "100", "numbers of keys, with commas")
	latencies := flag.String("latency", "0s,50ms", "distances to the server; each after the first runs with one round and the smallest number of keys")
	rounds := flag.Int("rounds", 1, "rounds of each scenario; the largest number of keys has one")
	profile := flag.String("profile", "", "folder for pprof profiles of every provider process; slows it down")
	verbose := flag.Bool("v", false, "report every single walk on standard error")
	flag.Parse()

	dir, err := os.MkdirTemp("", "byok-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	_ = verbose
	var scenarios []scenario
	sizes, err := numbers(*keys)
	if err != nil {
		return err
	}
	for i, text := range strings.Split(*latencies, ",") {
		latency, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		for j, n := range sizes {
			switch {
			case i == 0 && j == 0:
				scenarios = append(scenarios, scenario{n, latency, *rounds})
			case i == 0:
				scenarios = append(scenarios, scenario{n, latency, 1})
			case j == 0:
				scenarios = append(scenarios, scenario{n, latency, 1})
			}
		}
	}
	if strings.Contains(*only, "provider") {
		if *profile != "" {
			if *profile, err = filepath.Abs(*profile); err != nil {
				return err
			}
			if err := os.MkdirAll(*profile, 0o700); err != nil {
				return err
			}
		}
		b := &providerBench{bin: *bin, profile: *profile, log: os.Stderr, dir: dir}
		t, err := b.run(ctx, scenarios)
		if err != nil {
			return err
		}
		t.print(os.Stdout)
	}
	return nil
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
