package acctest

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

// separate is a byok-server process with the world of testdata.
func separate(t *testing.T) *elsewhere {
	t.Helper()
	if testing.Short() {
		t.Skip("building byok-server is left out by -short")
	}
	file, err := os.Open("testdata/world.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	world, err := server.ReadBootstrap(file)
	if err != nil {
		t.Fatal(err)
	}
	world.Workspaces = world.Workspaces[:2]
	bin, err := byokserver.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p, err := byokserver.Start(t.Context(), byokserver.Config{
		Binary: bin, Dir: t.TempDir(), Database: "sqlite::memory:", Bootstrap: world, Flags: []string{"--development"},
		Secrets: server.Secrets{EncryptionKey: strings.Repeat("0f", 32), AuthSecret: "auth", InternalSecret: "internal"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	e, err := newElsewhere(p.URL, "internal", world)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A test finds on another server what it would find on its own.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	e := separate(t)
	faults, used := 0, false
	t.Run("use", func(t *testing.T) {
		s := start(t, e, WithMiddleware(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				faults++
				next.ServeHTTP(w, r)
			})
		}))
		a := s.Add(t, s.WorkspaceID, "openai", "sk-a-0000000000", "A")
		if got := s.Resolve(t, s.WorkspaceID, "openai"); got == nil || got.KeyID != a || got.APIKey != "sk-a-0000000000" {
			t.Errorf("Resolve = %+v", got)
		}
		if s.Count("", "") != 0 || faults != 0 {
			t.Error("the side door is logged, or subject to faults")
		}
		through := byokserver.Door{Client: http.DefaultClient, URL: func() string { return s.URL }, Session: s.SessionToken}
		if status, text, err := through.Do(t.Context(), http.MethodGet, byokserver.KeysPath(s.WorkspaceID), nil, nil); status != http.StatusOK {
			t.Errorf("list: %d %s, %v", status, text, err)
		}
		if s.Count("GET", "/byok-keys") != 1 || faults != 1 {
			t.Errorf("requests %+v, %d seen by the middleware", s.Requests(), faults)
		}
		other := s.NewWorkspace(t)
		if other == s.WorkspaceID {
			t.Error("the other workspace is the same one")
		}
		for permission, want := range map[string]int{"read": http.StatusOK, "": http.StatusUnauthorized} {
			through.Session = s.NewUser(t, permission, other).SessionToken
			if status, text, err := through.Do(t.Context(), http.MethodGet, byokserver.KeysPath(other), nil, nil); status != want {
				t.Errorf("user with permission %q: %d %s, %v", permission, status, text, err)
			}
		}
		used = true
	})
	if !used {
		t.Error("the test was skipped")
	}
	t.Run("empty afterwards", func(t *testing.T) {
		s := start(t, e)
		for _, id := range []string{s.WorkspaceID, s.NewWorkspace(t)} {
			if keys := s.List(t, id); len(keys) != 0 {
				t.Errorf("%d keys are left", len(keys))
			}
		}
	})
	t.Run("side doors", func(t *testing.T) {
		for needs, use := range map[string]func(t *testing.T){
			"an option":   func(t *testing.T) { start(t, e, Hosted()) },
			"rate limits": func(t *testing.T) { start(t, e, RateLimited()) },
			"SQL":         func(t *testing.T) { s := start(t, e); s.EndSessions(t, s.Email) },
		} {
			t.Run(needs, func(t *testing.T) {
				skipped := false
				t.Run("skips", func(t *testing.T) {
					defer func() { skipped = t.Skipped() }()
					use(t)
				})
				if !skipped {
					t.Error("the test is not skipped")
				}
			})
		}
	})
}
