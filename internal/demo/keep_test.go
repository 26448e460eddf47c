//go:build unix

package main

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// make demo KEEP=1 ends without an error when the user presses Ctrl-C, which
// sends a signal to make, its shell, the demo and byok-server at once.
func TestKeepEndsByInterrupt(t *testing.T) {
	t.Parallel()
	tfrun.Need(t)
	const root = "../.."
	bin := tfrun.Built()
	if bin == "" {
		bin = t.TempDir()
		build := exec.Command("go", "build", "-C", root, "-o", bin, ".", "./cmd/byok-server")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cmd := exec.Command("make", "-C", root, "--no-print-directory", "--old-file=build", "demo", "KEEP=1", "BIN="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal := -cmd.Process.Pid // its group
	late := time.AfterFunc(5*time.Minute, func() { _ = syscall.Kill(terminal, syscall.SIGKILL) })
	defer late.Stop()

	var said []string
	interrupted := -1
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if interrupted < 0 && strings.HasPrefix(lines.Text(), "Ctrl-C stops it") {
			interrupted = len(said)
			if err := syscall.Kill(terminal, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // make ends by the signal
	if interrupted < 0 {
		t.Fatalf("the demo did not stay up:\n%s", strings.Join(said, "\n"))
	}
	if rest := strings.Join(said[interrupted:], "\n"); strings.TrimSpace(rest) != "" {
		t.Errorf("after Ctrl-C:\n%s", rest)
	}
}
