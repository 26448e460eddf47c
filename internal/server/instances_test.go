//go:build unix

package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// Four servers that start at once on one empty PostgreSQL: 200 adds to one
// pool leave exactly ten keys, each instance rotates by itself, and what one
// replaces or deletes none serves any more.
func TestFourInstances(t *testing.T) {
	t.Parallel()
	target := pgtest.URL(t)
	instances := make([]*fixture, 4)
	var starting sync.WaitGroup
	for i := range instances {
		starting.Go(func() {
			instances[i] = startFixture(t, func(c *server.Config) { c.Database, c.Now = target, nil })
		})
	}
	starting.Wait()
	if t.Failed() {
		return
	}
	// A session made by one is good for all.
	session := cookie("session_token", instances[0].signIn(t, signInBody).cookies["session_token"])

	var added, full atomic.Int64
	var adding sync.WaitGroup
	for i := range 200 {
		adding.Go(func() {
			body := fmt.Sprintf(`{"providerId":"openai","apiKey":"sk-instance-%04d","name":"%d"}`, i, i)
			switch a := instances[i%4].call(t, http.MethodPost, testKeys, body, "Cookie", session); {
			case a.StatusCode == http.StatusOK:
				added.Add(1)
			case a.StatusCode == http.StatusBadRequest && a.body == `{"error":"A workspace can store at most 10 keys per provider"}`:
				full.Add(1)
			default:
				t.Errorf("add %d: %d %s", i, a.StatusCode, a.body)
			}
		})
	}
	adding.Wait()
	if added.Load() != byok.Cap || full.Load() != 200-byok.Cap {
		t.Fatalf("%d adds stored and %d refused, want %d and %d", added.Load(), full.Load(), byok.Cap, 200-byok.Cap)
	}

	resolve := func(f *fixture) string {
		return f.call(t, http.MethodPost, "/reference/resolve",
			`{"workspaceId":"`+testWorkspace+`","providerId":"openai"}`, "Authorization", "Bearer internal").body
	}
	list := instances[0].call(t, http.MethodGet, testKeys, "", "Cookie", session).body
	var ids []string
	for _, part := range strings.Split(list, `{"id":"`)[1:] {
		ids = append(ids, part[:byok.KeyIDLength])
	}
	for round := range 2 { // the same order on each, from the beginning
		for i, instance := range instances {
			if got := resolve(instance); !strings.Contains(got, `"keyId":"`+ids[round]+`"`) {
				t.Errorf("instance %d, call %d served %s, want key %s", i, round+1, got, ids[round])
			}
		}
	}
	instances[1].call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-replaced-0001","keyId":"`+ids[2]+`"}`, "Cookie", session)
	for i, instance := range instances {
		if got := resolve(instance); !strings.Contains(got, `"apiKey":"sk-replaced-0001"`) {
			t.Errorf("instance %d serves %s after a replace through another", i, got)
		}
	}
	instances[2].call(t, http.MethodDelete, testKeys, `{"providerId":"openai","keyId":"`+ids[3]+`"}`, "Cookie", session)
	for i, instance := range instances {
		for range byok.Cap {
			if got := resolve(instance); strings.Contains(got, ids[3]) {
				t.Errorf("instance %d serves a key that another deleted", i)
			}
		}
	}
}

// A client that sends too much header, or takes too long over it, is let go.
func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	if a := f.call(t, http.MethodGet, testKeys, "", "X-Long", strings.Repeat("x", 80<<10)); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("80 KiB of header: %d, want 431", a.StatusCode)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") // and no more
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("a header that never ends: %q, %v; want the connection closed", line, err)
	}
}
