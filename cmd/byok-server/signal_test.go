//go:build unix

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProcess makes the test binary run main with the arguments in it, one a line.
const asProcess = "TEST_AS_BYOK_SERVER"

// TestAsProcess is byok-server itself, for tests that need a process.
func TestAsProcess(t *testing.T) {
	args := os.Getenv(asProcess)
	if args == "" {
		t.Skip("only where another test starts it")
	}
	os.Args = append(os.Args[:1], strings.Split(args, "\n")...)
	main()
}

// The first signal lets the requests under way end, the second one ends the
// process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	args := []string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--database", "sqlite:" + filepath.Join(t.TempDir(), "s.db")}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAsProcess$")
	cmd.Env = append(os.Environ(), asProcess+"="+strings.Join(args, "\n"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	lines := bufio.NewScanner(stderr)
	line := func(part string) string {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), part) {
				return lines.Text()
			}
		}
		t.Fatalf("the server ended without a line with %s", part)
		return ""
	}
	_, rest, _ := strings.Cut(line(`"msg":"listening"`), `"url":"http://`)
	address, _, _ := strings.Cut(rest, `"`)

	// A request that does not end by itself: its body never comes.
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v, want 100", response, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	line("stopping")
	// The server gives signals back right after the first one; which of the two
	// comes first is not to be seen from here.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for began := time.Now(); ; {
		select {
		case <-again.C:
			_ = cmd.Process.Signal(os.Interrupt)
		case err := <-ended:
			if err == nil {
				t.Error("ended as if it had not been interrupted")
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("ended after %s", took)
			}
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
				t.Errorf("ended as %s, want by the second interrupt", cmd.ProcessState)
			}
			return
		}
	}
}

// A flag that is wrong is found before anything is written or bound.
func TestNothingWrittenForWrongFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--app-url", "sim.example.com"}, "app URL"},
		{[]string{"--app-url", "https://sim.example.com/path"}, "app URL"},
		{[]string{"--listen", "nowhere"}, "listen on nowhere"},
		{[]string{"--trusted-proxies", "10.0.0.0/8,proxy"}, `trusted proxy "proxy"`},
		{[]string{"--env-file", "/nonexistent/env", "--bootstrap", write(t, "b.json", bootstrap)}, "/nonexistent"},
	} {
		dir := t.TempDir()
		got := call(t, nil, append([]string{"serve", "--database", "sqlite:" + filepath.Join(dir, "s.db")}, tt.args...)...)
		left, err := os.ReadDir(dir)
		if got.code == 0 || !strings.Contains(got.stderr, tt.want) || err != nil || len(left) > 0 {
			t.Errorf("%q: %+v, left %v, %v; want %s and nothing left", tt.args, got, left, err, tt.want)
		}
	}
}
