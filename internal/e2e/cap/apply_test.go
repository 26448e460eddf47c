package cap

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

const full = `Pool "openai" is full, its cap is 10`

// statusWriter remembers the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// deletesAfterRefusal holds every delete back until a create has been refused,
// so that the create is always the first of the two to be asked for.
func deletesAfterRefusal() acctest.Option {
	refused, once := make(chan struct{}), sync.Once{}
	return acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				select {
				case <-refused:
				case <-r.Context().Done():
					return
				}
			}
			w := &statusWriter{ResponseWriter: rw}
			next.ServeHTTP(w, r)
			if r.Method == http.MethodPost && w.status == http.StatusBadRequest {
				once.Do(func() { close(refused) })
			}
		})
	})
}

// TestRefusedCreateWaits: a create that the API refuses waits for the delete
// of the same apply.
func TestRefusedCreateWaits(t *testing.T) {
	t.Parallel()
	for name, ignoreHint := range map[string]bool{"": false, "without the hint": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, deletesAfterRefusal())
			if ignoreHint {
				w.setHint(t, false)
			}
			w.configure(t, keys("openai", span(1, 10)...))
			w.Apply(t)
			w.configure(t, keys("openai", span(4, 13)...))
			w.server.Reset()
			w.passes(t)
			refused := 0
			for _, r := range w.server.Requests() {
				if r.Method == http.MethodPost && r.Status == http.StatusBadRequest {
					refused++
				}
			}
			if refused == 0 {
				t.Error("no create was refused")
			}
		})
	}
}

// TestRefusedCreateFails: where nothing makes room, every create says so, and
// the apply after room was made goes through.
func TestRefusedCreateFails(t *testing.T) {
	t.Parallel()
	hurried := func(w *world, names ...string) string { return keysWith("openai", "openai", w.hurry(), names...) }
	wantFull := func(t *testing.T, w *world, errs planned, n int) {
		t.Helper()
		found, whole := 0, 0
		for _, d := range errs {
			if d.Summary == full {
				found++
				w.wantAtProviderID(t, d)
				if strings.Contains(d.Detail, "Keys in the pool now:") {
					whole++
				} else if !strings.Contains(d.Detail, "Another error about this pool lists its keys") {
					t.Errorf("the error says:\n%s", d.Detail)
				}
				if !strings.Contains(d.Detail, "within the create timeout") {
					t.Errorf("the error says:\n%s", d.Detail)
				}
			}
		}
		if found != n || whole != 1 {
			t.Errorf("%d creates were refused, want %d, and %d errors list the keys: %+v", found, n, whole, errs)
		}
		w.wantOwned(t)
	}
	// Without the hint, a refusal at apply has the text of a plan's, before the
	// API is asked.
	wantWould := func(t *testing.T, w *world, errs planned) {
		t.Helper()
		if len(errs) != 1 || errs[0].Summary != would("openai", 11) || !strings.Contains(errs[0].Detail, "If this is an apply, and its plan passed, keys have been added since by another user: plan again.") {
			t.Errorf("errors: %+v", errs)
		}
		w.wantOwned(t)
	}

	t.Run("filled by another user after the plan", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.addOthers(t, "openai", span(1, 8)...)
		w.configure(t, hurried(w, "k11", "k12"))
		w.Must(t, "plan", "-out=plan.tfplan")
		ids := w.addOthers(t, "openai", "k09", "k10")
		wantFull(t, w, w.inJSON(t, 1, "apply", "plan.tfplan").errors(), 2)

		for _, id := range ids {
			w.server.Delete(t, w.server.WorkspaceID, "openai", id)
			delete(w.others, id)
		}
		w.passes(t)
	})
	t.Run("filled after the plan, without the hint", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.setHint(t, false)
		w.addOthers(t, "openai", span(1, 9)...)
		w.configure(t, hurried(w, "k11"))
		w.Must(t, "plan", "-out=plan.tfplan")
		w.addOthers(t, "openai", "k10")
		wantWould(t, w, w.inJSON(t, 1, "apply", "plan.tfplan").errors())
	})
	t.Run("a provider ID known at apply only", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.addOthers(t, "openai", span(1, 10)...)
		w.configure(t, `
resource "terraform_data" "later" {
  input = "openai"
}

resource "byok_key" "unknown" {
  provider_id = terraform_data.later.output
  api_key_wo  = "sk-openai-0123456789"
  `+w.hurry()+`}
`)
		errs := w.inJSON(t, 1, "apply", "-auto-approve").errors()
		if w.CLI().IsOpenTofu() {
			wantWould(t, w, errs)
			return
		}
		wantFull(t, w, errs, 1)
	})
	t.Run("the delete that was to make room fails", func(t *testing.T) {
		t.Parallel()
		var broken atomic.Bool
		w := newWorld(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete && broken.Load() {
					rw.WriteHeader(http.StatusInternalServerError)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}))
		w.Env = append(w.Env, "BYOK_MAX_RETRIES=0")
		w.configure(t, hurried(w, span(1, 10)...))
		w.Apply(t)
		w.configure(t, hurried(w, span(3, 12)...))
		broken.Store(true)
		wantFull(t, w, w.inJSON(t, 1, "apply", "-auto-approve").errors(), 2)
		broken.Store(false)
		w.passes(t)
	})
}

// TestSwapWithFewSlots: where creates that wait occupy all slots, they end, and
// the next apply adds what is missing.
func TestSwapWithFewSlots(t *testing.T) {
	t.Parallel()
	for _, parallelism := range []int{1, 2} {
		t.Run(fmt.Sprint(parallelism), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, keys("openai", span(1, 10)...))
			w.Apply(t)
			w.configure(t, keys("openai", span(4, 13)...))
			w.Must(t, "plan", "-out=plan.tfplan")
			if result := w.Try(t, "apply", "-no-color", fmt.Sprintf("-parallelism=%d", parallelism), "plan.tfplan"); result.Exit != 0 {
				// Before its first change, nothing tells an apply of OpenTofu from a plan.
				asPlan := w.CLI().IsOpenTofu() && strings.Contains(result.Output, "would hold 11 keys")
				if !asPlan && (!strings.Contains(result.Output, full) || !strings.Contains(strings.Join(strings.Fields(result.Output), " "), "terraform apply again")) {
					t.Errorf("the apply ended with:\n%s", result.Output)
				}
				w.wantOwned(t)
			}
			w.passes(t)
		})
	}
}

// TestUndecided: what no provider can tell at plan, as the guide says. The
// plan passes, the apply says what has happened, and nothing is lost.
func TestUndecided(t *testing.T) {
	t.Parallel()
	createFirst := func(hurry string) string {
		return keysWith("openai", "openai", hurry+"lifecycle {\n    create_before_destroy = true\n  }", span(1, 10)...)
	}
	for name, tc := range map[string]struct {
		before, config func(hurry string) string
		args           []string
		// onOpenTofu are the errors that can occur there. Nothing tells the planning
		// call of a create from a plan before the first change of its provider.
		onOpenTofu []string
	}{
		"create_before_destroy in a full pool": {before: createFirst, config: createFirst, args: []string{`-replace=byok_key.openai["k03"]`}, onOpenTofu: []string{would("openai", 11)}},
		"two aliases fill one pool": {
			config: func(hurry string) string {
				return "provider \"byok\" {\n  alias = \"second\"\n}\n" +
					keysWith("openai", "openai", hurry, span(1, 10)...) + block("openai", "k11", "provider = byok.second\n"+hurry)
			},
			// Depends on whether the pool is full when the second alias lists it.
			onOpenTofu: []string{would("openai", 11), full},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tc.before != nil {
				w.configure(t, tc.before(w.hurry()))
				w.Apply(t)
			}
			stored := w.server.List(t, w.server.WorkspaceID)
			w.configure(t, tc.config(w.hurry()))
			w.plan(t, 2, append(tc.args, "-out=plan.tfplan")...)
			want := []string{full}
			if w.CLI().IsOpenTofu() {
				want = tc.onOpenTofu
			}
			errs := w.inJSON(t, 1, "apply", "plan.tfplan").errors()
			if got := errs.summaries(); len(got) != 1 || !slices.Contains(want, got[0]) {
				t.Errorf("errors: %q, want %q", got, want)
			}
			now := map[string]bool{}
			for _, key := range w.server.List(t, w.server.WorkspaceID) {
				now[key.ID] = true
			}
			for _, key := range stored {
				if !now[key.ID] {
					t.Errorf("key %s is gone", key.ID)
				}
			}
			if w.CLI().IsOpenTofu() && tc.before != nil {
				// The old key stays deposed, and no apply goes through until it is
				// adopted again, as the guide says.
				for _, key := range stored {
					if *key.Name == "k03" {
						w.Must(t, "state", "rm", `byok_key.openai["k03"]`)
						w.configure(t, keys("openai", span(1, 10)...), importing("openai", []string{"k03"}, []string{key.ID}))
						w.passes(t)
					}
				}
				if diff := gocmp.Diff(stored, w.server.List(t, w.server.WorkspaceID)); diff != "" {
					t.Errorf("stored keys:\n%s", diff)
				}
			}
		})
	}
}
