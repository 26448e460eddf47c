package cap

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
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

// TestForgottenBesideACreate: a key that is removed from state only stays in its
// pool. Terraform leaves it out of the plan, so it counts. OpenTofu refreshes it
// first, and then plans nothing more for it, as if it were replaced: the plan
// passes, and the apply stops at the cap.
func TestForgottenBesideACreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nine := span(1, 9)
	w.configure(t, keysWith("openai", "openai", w.hurry(), nine...)+block("openai", "k10", ""))
	w.Apply(t)
	before := w.server.List(t, w.server.WorkspaceID)
	w.configure(t, keysWith("openai", "openai", w.hurry(), append(nine, "k11")...)+
		"removed {\n  from = byok_key.k10\n  lifecycle {\n    destroy = false\n  }\n}\n")
	if !w.CLI().IsOpenTofu() {
		w.fails(t, []string{would("openai", 11)})
		w.wantOwned(t)
		return
	}
	w.plan(t, 2, "-out=plan.tfplan")
	if got := w.inJSON(t, 1, "apply", "plan.tfplan").errors().summaries(); !slices.Equal(got, []string{would("openai", 11)}) {
		t.Errorf("errors of the apply: %q", got)
	}
	if diff := gocmp.Diff(before, w.server.List(t, w.server.WorkspaceID)); diff != "" {
		t.Errorf("stored keys:\n%s", diff)
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

// TestListFails: a plan that could not list a workspace fails. With cap_check
// "off" it lists nothing.
func TestListFails(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]http.HandlerFunc{
		"no response":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"server error":      func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) },
		"no access":         func(rw http.ResponseWriter, _ *http.Request) { refuse(rw, http.StatusUnauthorized) },
		"forbidden":         func(rw http.ResponseWriter, _ *http.Request) { refuse(rw, http.StatusForbidden) },
		"no such workspace": func(rw http.ResponseWriter, _ *http.Request) { refuse(rw, http.StatusNotFound) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			w := newWorld(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if broken.Load() && strings.HasSuffix(r.URL.Path, "/byok-keys") {
						respond(rw, r)
						return
					}
					next.ServeHTTP(rw, r)
				})
			}))
			w.Env = append(w.Env, "BYOK_MAX_RETRIES=0")
			broken.Store(true)
			w.configure(t, keys("openai", span(1, 11)...))
			for _, capCheck := range []string{"error", "warning"} {
				w.Env = append(w.Env, "BYOK_CAP_CHECK="+capCheck)
				p := w.plan(t, 1)
				if len(p) != 1 || !strings.HasPrefix(p[0].Summary, "Cannot plan keys: ") {
					t.Errorf("cap_check %q: want one error, got %+v", capCheck, p)
				}
			}
			w.configure(t, keys("openai", "k01"))
			w.Env = append(w.Env, "BYOK_CAP_CHECK=off")
			if p := w.plan(t, 2, "-out=plan.tfplan"); len(p) != 0 {
				t.Errorf("cap_check \"off\": %+v", p)
			}
			broken.Store(false)
			w.Apply(t, "plan.tfplan")
			w.wantSettled(t)
		})
	}
}

func refuse(rw http.ResponseWriter, status int) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_, _ = rw.Write([]byte(`{"error":"refused"}`))
}

// TestReplaceKeepsTheKey: a replace whose destination is not there, or is full,
// fails at plan, while the old key is still stored.
func TestReplaceKeepsTheKey(t *testing.T) {
	t.Parallel()
	t.Run("mistyped workspace", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.configure(t, keys("openai", "k01"))
		w.Apply(t)
		before := w.server.List(t, w.server.WorkspaceID)
		for _, capCheck := range []string{"error", "warning"} {
			w.Env = append(w.Env, "BYOK_WORKSPACE_ID=mistyped", "BYOK_CAP_CHECK="+capCheck)
			p := w.plan(t, 1)
			if len(p) != 1 || p[0].Summary != "Cannot plan keys: workspace not found" {
				t.Errorf("cap_check %q: %+v", capCheck, p)
			}
			if result := w.Try(t, "apply", "-auto-approve"); result.Exit != 1 {
				t.Errorf("cap_check %q: the apply ended with %d:\n%s", capCheck, result.Exit, result.Output)
			}
		}
		if diff := gocmp.Diff(before, w.server.List(t, w.server.WorkspaceID)); diff != "" {
			t.Errorf("stored keys:\n%s", diff)
		}
	})
	t.Run("full pool, cap_check warning", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.addOthers(t, "openai", span(1, 10)...)
		w.configure(t, block("anthropic", "k11", ""))
		w.Apply(t)
		w.Env = append(w.Env, "BYOK_CAP_CHECK=warning")
		w.configure(t, block("openai", "k11", ""))
		if got := w.plan(t, 2).warnings().summaries(); !slices.Equal(got, []string{would("openai", 11)}) {
			t.Errorf("warnings: %q", got)
		}
	})
}

// TestHintInPlans: with a provider that is always told that deferral is allowed,
// as in Terraform Stacks, the check still works.
func TestHintInPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setHint(t, true)
	w.configure(t, keys("openai", span(1, 11)...))
	w.fails(t, []string{would("openai", 11)})
	w.addOthers(t, "openai", span(12, 15)...)
	w.configure(t, keys("openai", span(1, 7)...))
	if got := w.plan(t, 2).warnings().summaries(); !slices.Equal(got, []string{would("openai", 11)}) {
		t.Errorf("warnings: %q", got)
	}
	w.configure(t, keys("openai", span(1, 6)...))
	w.passes(t)
	w.configure(t, keys("openai", span(1, 7)...))
	w.fails(t, []string{would("openai", 11)})
	w.configure(t, keys("openai", span(2, 7)...))
	w.passes(t)
}

// TestUnknownDefaultWorkspace: the provider's workspace follows from another
// resource and changes together with a key or a pool. The apply keeps the keys
// where the plan has shown them, and the next plan moves them; also where nothing
// tells the planning call of the apply from a plan, as on OpenTofu.
func TestUnknownDefaultWorkspace(t *testing.T) {
	t.Parallel()
	resources := map[string]func(name string) string{
		"key": func(name string) string {
			return fmt.Sprintf(`resource "byok_key" "key" {
  provider_id = "openai"
  name        = %q
  api_key_wo  = "sk-openai-0123456789-key"
}
`, name)
		},
		"pool": func(name string) string {
			return fmt.Sprintf(`resource "byok_pool" "pool" {
  provider_id = "openai"
  keys = {
    %s = { api_key_wo = "sk-openai-0123456789-key" }
  }
}
`, name)
		},
	}
	for name, resource := range resources {
		for hint, ignored := range map[string]bool{"": false, ", without the hint": true} {
			t.Run(name+hint, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				if ignored {
					w.setHint(t, false)
				}
				other := w.server.NewWorkspace(t)
				config := func(workspaceID, name string) string {
					return fmt.Sprintf(`
resource "terraform_data" "workspace" {
  input = %q
}

provider "byok" {
  workspace_id = terraform_data.workspace.output
}

`, workspaceID) + resource(name)
				}
				w.configure(t, config(w.server.WorkspaceID, "before"))
				w.Apply(t)
				w.configure(t, config(other, "after"))
				warnsOnce := func(output string) {
					t.Helper()
					if n := strings.Count(output, "Warning: Default workspace not known"); n != 1 {
						t.Errorf("%d warnings that the workspace is not known:\n%s", n, output)
					}
				}
				warnsOnce(w.Apply(t).Output)
				if stored := w.server.List(t, w.server.WorkspaceID); len(stored) != 1 || *stored[0].Name != "after" {
					t.Errorf("stored: %+v", stored)
				}
				w.Apply(t)
				if here, there := w.server.List(t, w.server.WorkspaceID), w.server.List(t, other); len(here) != 0 || len(there) != 1 {
					t.Errorf("stored here: %+v, there: %+v", here, there)
				}
				// What was read while the workspace was not known moves with it, too.
				w.configure(t, config(w.server.WorkspaceID, "after"))
				warnsOnce(w.Plan(t, "-refresh=false").Output)
				warnsOnce(w.Apply(t).Output)
				warnsOnce(w.Plan(t, "-refresh=false").Output)
				if stored := w.server.List(t, other); len(stored) != 1 {
					t.Errorf("stored there: %+v", stored)
				}
				w.Apply(t)
				if here, there := w.server.List(t, w.server.WorkspaceID), w.server.List(t, other); len(here) != 1 || len(there) != 0 {
					t.Errorf("stored here: %+v, there: %+v", here, there)
				}
			})
		}
	}
}

// TestManySwaps: from ten creates on that wait for removals, one warning names
// the parallelism that would do.
func TestManySwaps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, keys("openai", span(1, 10)...), keys("anthropic", span(1, 10)...))
	w.Apply(t)
	w.configure(t, keys("openai", span(11, 19)...), keys("anthropic", span(1, 10)...))
	if p := w.plan(t, 2); len(p) != 0 {
		t.Errorf("8 of them: %+v", p)
	}
	w.configure(t, keys("openai", span(11, 20)...), keys("anthropic", span(11, 20)...))
	p := w.plan(t, 2)
	if got := p.summaries(); !slices.Equal(got, []string{"20 creates wait for removals of the same apply"}) {
		t.Fatalf("%q", got)
	}
	if !strings.Contains(p[0].Detail, "-parallelism=30.") || !strings.Contains(p[0].Detail, "byok_pool") {
		t.Errorf("the warning says:\n%s", p[0].Detail)
	}
	w.passes(t, "-parallelism=30")
}
