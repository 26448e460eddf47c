//go:build unix

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The first signal lets the requests under way end, the second one ends the
// process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := serve(t, secrets, "--database", "sqlite::memory:")
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
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
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
			_ = p.cmd.Process.Signal(os.Interrupt)
		case <-p.ended:
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("ended after %s", took)
			}
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
				t.Errorf("ended as %s, want by the second interrupt", p.cmd.ProcessState)
			}
			return
		}
	}
}
