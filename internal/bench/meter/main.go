//go:build unix

// Command meter runs the provider that lies beside it under the name "provider"
// and appends what it cost to the file that BYOK_BENCH_METER names: one line of
// JSON per process. Terraform starts providers itself and adds their cost to
// its own, so this is how the bench tells the two apart.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/bench/cost"
)

func main() {
	// An interrupt reaches the provider as well, which knows what to do.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
		code = 1
	}
	os.Exit(code)
}

func run() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(self), "provider"), os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	line, err := json.Marshal(cost.Of(cmd.ProcessState))
	if err != nil {
		return 0, err
	}
	file, err := os.OpenFile(os.Getenv("BYOK_BENCH_METER"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = file.Write(append(line, '\n'))
	return cmd.ProcessState.ExitCode(), errors.Join(err, file.Close())
}
