package cap

import (
	"net/http"
	"testing"
)

// TestCosts: what an operation sends for the check. That a plan waits only when it is
// about to fail, internal/ledger shows on a clock of its own.
func TestCosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.server.NewWorkspace(t)
	elsewhere := func(names ...string) string {
		return keysWith("elsewhere", "openai", "workspace_id = \""+other+"\"", names...)
	}
	w.configure(t, keys("openai", span(1, 10)...), elsewhere("k01"))
	w.Apply(t)

	// lists runs terraform and wants so many lists of each workspace.
	lists := func(t *testing.T, here, there int, exit int, args ...string) {
		t.Helper()
		w.server.Reset()
		if result := w.Try(t, args...); result.Exit != exit {
			t.Fatalf("terraform ended with %d, want %d:\n%s", result.Exit, exit, result.Output)
		}
		for workspaceID, want := range map[string]int{w.server.WorkspaceID: here, other: there} {
			if got := w.server.Count(http.MethodGet, "/"+workspaceID+"/byok-keys"); got != want {
				t.Errorf("%d lists of workspace %s, want %d", got, workspaceID, want)
			}
		}
	}
	plan := func(args ...string) []string { return append([]string{"plan", "-detailed-exitcode"}, args...) }

	t.Run("no creates", func(t *testing.T) {
		lists(t, 1, 1, 0, plan()...)
		lists(t, 0, 0, 0, plan("-refresh=false")...)
	})
	t.Run("deletes alone", func(t *testing.T) {
		w.configure(t, keys("openai", span(2, 10)...), elsewhere("k01"))
		lists(t, 0, 0, 2, plan("-refresh=false", "-out=plan.tfplan")...)
		lists(t, 0, 0, 0, "apply", "plan.tfplan")
	})
	t.Run("creates in one of two workspaces", func(t *testing.T) {
		w.configure(t, keys("openai", span(2, 11)...), keys("anthropic", span(1, 10)...), elsewhere("k01"))
		lists(t, 1, 1, 2, plan()...)
		lists(t, 1, 0, 2, plan("-refresh=false", "-out=plan.tfplan")...)
	})
	t.Run("an apply lists for its adds, not for the check", func(t *testing.T) {
		w.server.Reset()
		w.Apply(t, "plan.tfplan")
		adds, listed := w.server.Count(http.MethodPost, "/byok-keys"), w.server.Count(http.MethodGet, "/byok-keys")
		if adds != 11 {
			t.Errorf("%d adds, want 11", adds)
		}
		// One before the first add, and then each add reads back, if no other
		// does so for it.
		if listed > 1+adds {
			t.Errorf("%d lists for %d adds", listed, adds)
		}
		w.server.Reset()
		w.wantSettled(t)
	})
	t.Run("a swap", func(t *testing.T) {
		w.configure(t, keys("openai", span(7, 16)...), keys("anthropic", span(1, 10)...), elsewhere("k01"))
		lists(t, 1, 1, 2, plan()...)
		lists(t, 1, 0, 2, plan("-refresh=false")...)
	})
	t.Run("an error", func(t *testing.T) {
		w.configure(t, keys("openai", span(2, 13)...), keys("anthropic", span(1, 12)...), elsewhere(span(1, 12)...))
		lists(t, 1, 1, 1, plan()...)
	})
	t.Run("no check", func(t *testing.T) {
		w.Env = append(w.Env, "BYOK_CAP_CHECK=off")
		lists(t, 0, 0, 2, plan("-refresh=false")...)
	})
}
