//go:build unix

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The first signal lets the requests under way end, the second one ends the
// process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	// A process does not inherit that a signal is ignored from one that handles it:
	// make test may run in the background of a shell.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, os.Interrupt)
	t.Cleanup(func() { signal.Stop(handled) })
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			testSecondSignal(t, serve(t, secrets, "--database", "sqlite::memory:"), sig)
		})
	}
}

// A server that was started with SIGINT ignored, as a shell script starts what it
// puts in the background, ignores it, the first as well as the second. SIGTERM
// works as always, whether it was ignored or not.
func TestIgnoredInterrupt(t *testing.T) {
	t.Parallel()
	cmd := command(t, secrets, serveArgs("--database", "sqlite::memory:")...)
	cmd.Args = append([]string{"sh", "-c", `trap '' INT TERM; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	p := startServing(t, cmd)
	for range 2 {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		// A server that stops refuses connections soon.
		for range 50 {
			p.client.CloseIdleConnections()
			if a := p.do(t, http.MethodGet, p.url+"/reference/health", ""); a.status != http.StatusOK {
				t.Fatalf("after an interrupt: %d %s", a.status, a.body)
			}
		}
	}
	testSecondSignal(t, p, syscall.SIGTERM)
}

// testSecondSignal sends a server the first signal, and then second ones.
func testSecondSignal(t *testing.T, p *program, sig syscall.Signal) {
	t.Helper()
	// A request that does not end by itself: its body never comes.
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v, want 100", response, err)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(p.log.String(), "stopping") {
		time.Sleep(time.Millisecond)
	}
	// The server gives signals back right after the first one; which of the two
	// comes first is not to be seen from here.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for began := time.Now(); ; {
		select {
		case <-again.C:
			_ = p.cmd.Process.Signal(sig)
		case <-p.ended:
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("ended after %s", took)
			}
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != sig {
				t.Errorf("ended as %s, want by the second %s", p.cmd.ProcessState, sig)
			}
			return
		}
	}
}
