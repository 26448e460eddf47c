package cap

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// TestFails: plans that would end over a cap.
func TestFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		others  []string // names of other people's keys in the pool openai
		before  string   // applied first
		prepare []string // a terraform command between the two
		config  string
		args    []string
		want    []string
	}{
		"11 creates on an empty pool": {
			config: blocks("openai", span(1, 11)...),
			want:   []string{would("openai", 11)},
		},
		"for_each of 12": {
			config: keys("openai", span(1, 12)...),
			want:   []string{would("openai", 12)},
		},
		"1 create beside 10 unmanaged": {
			others: span(1, 10),
			config: keys("openai", "k11"),
			want:   []string{would("openai", 11)},
		},
		"1 create beside 10 managed": {
			before: keys("openai", span(1, 10)...),
			config: keys("openai", span(1, 11)...),
			want:   []string{would("openai", 11)},
		},
		"1 create beside 10 managed, -refresh=false": {
			before: keys("openai", span(1, 10)...),
			config: keys("openai", span(1, 11)...),
			args:   []string{"-refresh=false"},
			want:   []string{would("openai", 11)},
		},
		"1 create beside 4 managed and 6 unmanaged": {
			others: span(1, 6),
			before: keys("openai", span(7, 10)...),
			config: keys("openai", span(7, 11)...),
			want:   []string{would("openai", 11)},
		},
		"two pools, the second over": {
			config: keys("anthropic", span(1, 10)...) + keys("openai", span(1, 11)...),
			want:   []string{would("openai", 11)},
		},
		"a key moving to a full pool": {
			before: keys("openai", span(1, 10)...) + block("anthropic", "k11", ""),
			config: keys("openai", span(1, 10)...) + block("openai", "k11", ""),
			want:   []string{would("openai", 11)},
		},
		"tainted plus one create": {
			before:  keys("openai", span(1, 10)...),
			prepare: []string{"taint", `byok_key.openai["k03"]`},
			config:  keys("openai", span(1, 11)...),
			want:    []string{would("openai", 11)},
		},
		"-replace plus one create": {
			before: keys("openai", span(1, 10)...),
			config: keys("openai", span(1, 11)...),
			args:   []string{`-replace=byok_key.openai["k03"]`},
			want:   []string{would("openai", 11)},
		},
		"-target of a create whose removed sibling is not targeted": {
			before: keys("openai", span(1, 10)...),
			config: keys("openai", span(2, 11)...),
			args:   []string{`-target=byok_key.openai["k11"]`},
			want:   []string{would("openai", 11)},
		},
		"removed without destroy beside a create": {
			before: keys("openai", span(1, 9)...) + block("openai", "k10", ""),
			config: keys("openai", append(span(1, 9), "k11")...) +
				"removed {\n  from = byok_key.k10\n  lifecycle {\n    destroy = false\n  }\n}\n",
			want: []string{would("openai", 11)},
		},
		"destroy while the configuration is over the cap": {
			before: keys("openai", span(1, 10)...),
			config: keys("openai", span(1, 11)...),
			args:   []string{"-destroy"},
			want:   []string{would("openai", 11)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addOthers(t, "openai", tc.others...)
			if tc.before != "" {
				w.configure(t, tc.before)
				w.Apply(t)
			}
			if tc.prepare != nil {
				w.Must(t, tc.prepare...)
			}
			w.configure(t, tc.config)
			w.fails(t, tc.want, tc.args...)
			w.wantOwned(t)
		})
	}
}

// TestPasses: plans that fit, to the last key, and apply.
func TestPasses(t *testing.T) {
	t.Parallel()
	ten := keys("openai", span(1, 10)...)
	for name, tc := range map[string]struct {
		others []string // names of other people's keys in the pool openai
		before string   // applied first
		config string
		args   []string
	}{
		"10 creates on an empty pool": {config: ten},
		"1 create beside 9 unmanaged": {others: span(1, 9), config: keys("openai", "k10")},
		"moved at the cap": {
			before: ten,
			config: keysWith("renamed", "openai", "", span(1, 10)...) + "moved {\n  from = byok_key.openai\n  to = byok_key.renamed\n}\n",
		},
		"moved and swapped at the cap": {
			before: ten,
			config: keysWith("renamed", "openai", "", span(2, 11)...) + "moved {\n  from = byok_key.openai\n  to = byok_key.renamed\n}\n",
		},
		"two pools":                           {config: ten + keys("anthropic", span(1, 10)...)},
		"a full pool of others left alone":    {others: span(1, 10), config: keys("anthropic", span(1, 10)...)},
		"a change in place at the cap":        {before: ten, config: keysWith("openai", "openai", `on_remote_change = "warn"`, span(1, 10)...)},
		"-replace beside unmanaged keys":      {others: span(1, 5), before: keys("openai", span(6, 10)...), config: keys("openai", span(6, 10)...), args: []string{`-replace=byok_key.openai["k07"]`}},
		"a key leaving a full pool":           {before: ten + block("anthropic", "k11", ""), config: ten + block("exa", "k11", "")},
		"an unknown provider ID, a full pool": {before: ten, config: ten + unknownPool("provider_id", "anthropic")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addOthers(t, "openai", tc.others...)
			if tc.before != "" {
				w.configure(t, tc.before)
				w.Apply(t)
			}
			w.configure(t, tc.config)
			w.passes(t, tc.args...)
		})
	}
}

// unknownPool declares a key of the provider ID anthropic, or of another one,
// one of whose coordinates is known at apply only.
func unknownPool(attribute, value string) string {
	providerID, workspaceID := `"anthropic"`, ""
	later := fmt.Sprintf("resource \"terraform_data\" \"later\" {\n  input = %q\n}\n", value)
	if attribute == "provider_id" {
		providerID = "terraform_data.later.output"
	} else {
		workspaceID = "workspace_id = terraform_data.later.output"
	}
	return later + fmt.Sprintf(`
resource "byok_key" "unknown" {
  provider_id = %s
  name        = "later"
  api_key_wo  = "sk-anthropic-0123456789-later"
  %s
}
`, providerID, workspaceID)
}

// TestUnknownWorkspace: the pool in the provider's own workspace is full, the
// one that the key goes to is not.
func TestUnknownWorkspace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addOthers(t, "anthropic", span(1, 10)...)
	w.configure(t, unknownPool("workspace_id", w.server.NewWorkspace(t)))
	w.passes(t)
}

// TestImports: adopted keys are in the pool already.
func TestImports(t *testing.T) {
	t.Parallel()
	t.Run("10 imports", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ids := w.addOthers(t, "openai", span(1, 10)...)
		w.configure(t, keys("openai", span(1, 10)...), importing("openai", span(1, 10), ids))
		w.Apply(t)
		if got := len(w.inState(t)); got != 10 {
			t.Errorf("%d keys in state, want 10", got)
		}
		for _, key := range w.server.List(t, w.server.WorkspaceID) {
			if diff := gocmp.Diff(w.others[key.ID], key); diff != "" {
				t.Errorf("the import changed a key:\n%s", diff)
			}
		}
		clear(w.others) // they are the configuration's now
		w.wantOwned(t)
		if again := w.Plan(t); again.Exit != 0 {
			t.Errorf("the next plan is not empty:\n%s", again.Output)
		}
	})
	t.Run("10 imports plus a create", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ids := w.addOthers(t, "openai", span(1, 10)...)
		w.configure(t, keys("openai", span(1, 11)...), importing("openai", span(1, 10), ids))
		w.fails(t, []string{would("openai", 11)})
	})
}

// TestDestroy: a configuration over its cap is no obstacle to a destroy that
// does not refresh.
func TestDestroy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addOthers(t, "anthropic", "k01")
	w.configure(t, keys("openai", span(1, 10)...))
	w.Apply(t)
	w.configure(t, keys("openai", span(1, 11)...))
	w.Destroy(t, "-refresh=false")
	if left := w.inState(t); len(left) > 0 {
		t.Errorf("left in state: %v", left)
	}
	w.wantOwned(t)
}

// TestUnreachable: without a list, only what the configuration alone exceeds is
// an error.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	var reachable atomic.Bool
	unreachable := acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !reachable.Load() {
				panic(http.ErrAbortHandler) // the connection breaks without an answer
			}
			next.ServeHTTP(rw, r)
		})
	})
	w := newWorld(t, unreachable)
	w.Env = append(w.Env, "BYOK_MAX_RETRIES=0")

	w.configure(t, keys("openai", span(1, 11)...))
	w.fails(t, []string{`Pool "openai" would hold at least 11 keys, its cap is 10`})

	w.configure(t, keys("openai", "k01"))
	p := w.plan(t, 2, "-out=plan.tfplan")
	if warnings := p.warnings(); len(p) != 1 || len(warnings) != 1 || warnings[0].Summary != "The caps of a workspace could not be checked" {
		t.Errorf("want one warning, got %+v", p)
	}
	reachable.Store(true)
	w.Apply(t, "plan.tfplan")
	w.wantSettled(t)
}
