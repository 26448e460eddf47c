package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

// TestInterrupt sends Ctrl-C to terraform while an add, a replace and a delete
// are on the wire, before or after the server has done them. State must then
// say what the server holds: no key that nobody knows, and none that is not
// there.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for name, done := range map[string]bool{"before the server has done it": false, "before the response arrives": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := newGate(done)
			s := acctest.Start(t, acctest.WithMiddleware(gate.wrap))
			t.Cleanup(gate.open) // lets a server end whose test has failed
			folder := tfrun.New(t)
			d := cli{folder, s.ProviderConfig()}
			declared := spec{
				"kept":     {workspaceID: s.WorkspaceID, providerID: "google", secret: "sk-kept-00000001"},
				"replaced": {workspaceID: s.WorkspaceID, providerID: "openai", secret: "sk-replaced-0001", form: writeOnly},
				"deleted":  {workspaceID: s.WorkspaceID, providerID: "anthropic", secret: "sk-deleted-00001"},
			}
			gate.open()
			if err := d.apply(t, declared); err != nil {
				t.Fatal(err)
			}
			declared = maps.Clone(declared)
			delete(declared, "deleted")
			replaced := declared["replaced"]
			replaced.secret = "sk-replaced-0002"
			declared["replaced"] = replaced
			for _, address := range []string{"added", "second", "third"} { // the others wait for their turn
				declared[address] = key{workspaceID: s.WorkspaceID, providerID: "mistral", secret: "sk-added-" + address}
			}
			d.write(t, declared)

			gate.shut()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := folder.Command(ctx, "apply", "-auto-approve", "-no-color")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			gate.await(t, ctx, "POST add", "POST replace", "DELETE")
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			said := awaitLine(t, out, "Interrupt received")
			gate.open()
			rest, _ := io.ReadAll(out)
			if err := cmd.Wait(); err == nil {
				t.Error("an interrupted apply ends with success")
			}

			ids := d.ids(t)
			var stored []string
			for _, k := range s.List(t, s.WorkspaceID) {
				stored = append(stored, k.ID)
			}
			slices.Sort(stored)
			if known := slices.Sorted(maps.Values(ids)); !slices.Equal(known, stored) {
				t.Errorf("state has the keys %v (%v), the server %v\n%s%s", ids, known, stored, said, rest)
			}
			if _, there := ids["deleted"]; there {
				t.Error("the deleted key is still in state")
			}
			if err := d.apply(t, declared); err != nil {
				t.Fatal(err)
			}
			if v := judge(t, s, declared, d.ids(t), nil); !v.clean() {
				t.Errorf("%+v", v)
			}
			if changes := d.plan(t, declared); changes != "" {
				t.Error(changes)
			}
		})
	}
}

// awaitLine reads until a line holds text, and returns what it has read.
func awaitLine(t *testing.T, from io.Reader, text string) string {
	t.Helper()
	var said strings.Builder
	one := make([]byte, 1)
	for !strings.Contains(said.String(), text) {
		if _, err := from.Read(one); err != nil {
			t.Fatalf("%q was not said: %v\n%s", text, err, said.String())
		}
		said.Write(one)
	}
	return said.String()
}

// gate holds writes back, either before the server does them or between that
// and the response.
type gate struct {
	done bool

	mu   sync.Mutex
	held map[string]int
	news chan struct{} // closed and replaced when a request is held
	pass chan struct{} // closed while the gate is open
}

func newGate(done bool) *gate {
	return &gate{done: done, held: map[string]int{}, news: make(chan struct{}), pass: make(chan struct{})}
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pass, g.held = make(chan struct{}), map[string]int{}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.pass:
	default:
		close(g.pass)
	}
}

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := kindOf(r)
		if kind == "" {
			next.ServeHTTP(w, r)
			return
		}
		response := httptest.NewRecorder()
		if g.done {
			next.ServeHTTP(response, r)
		}
		g.mu.Lock()
		pass := g.pass
		g.held[kind]++
		close(g.news)
		g.news = make(chan struct{})
		g.mu.Unlock()
		<-pass
		if !g.done {
			next.ServeHTTP(response, r)
		}
		maps.Copy(w.Header(), response.Header())
		w.Header().Del("Transfer-Encoding")
		w.WriteHeader(response.Code)
		_, _ = w.Write(response.Body.Bytes())
	})
}

// kindOf names a write; anything else is "".
func kindOf(r *http.Request) string {
	if !strings.HasSuffix(r.URL.Path, "/byok-keys") || r.Method == http.MethodGet {
		return ""
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var said struct{ KeyID string }
	_ = json.Unmarshal(body, &said)
	switch {
	case r.Method == http.MethodDelete:
		return "DELETE"
	case said.KeyID != "":
		return "POST replace"
	}
	return "POST add"
}

// await returns when a request of each kind is held since the gate was shut.
func (g *gate) await(t *testing.T, ctx context.Context, kinds ...string) {
	t.Helper()
	for {
		g.mu.Lock()
		missing := ""
		for _, kind := range kinds {
			if g.held[kind] == 0 {
				missing = kind
			}
		}
		news := g.news
		g.mu.Unlock()
		if missing == "" {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("no %s is sent", missing)
		}
	}
}
