package pool

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

func keyResource(label, providerID, name string) string {
	return fmt.Sprintf("resource \"byok_key\" %q {\n  provider_id = %q\n  name = %q\n  api_key_wo = %q\n}\n", label, providerID, name, secret(name))
}

func would(n int) string { return fmt.Sprintf("Pool %q would hold %d keys, its cap is 10", openai, n) }

// A pool that would exceed its cap fails at plan, and the plan does not wait to
// find out.
func TestCapAtPlan(t *testing.T) {
	t.Parallel()
	t.Run("11 declared", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.configure(t, pool(openai, keys(span("a", 1, 11)...)))
		w.failsAtOnce(t, would(11))
	})
	t.Run("8 beside 3 unmanaged", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, name := range []string{"x", "y", "z"} {
			w.add(t, openai, name)
		}
		w.configure(t, pool(openai, keys(span("a", 1, 8)...)))
		w.failsAtOnce(t, would(11), "x", "y", "z", "to = byok_pool.example")
		// A create of an exclusive pool removes nothing.
		w.configure(t, pool(openai, exclusive, keys(span("a", 1, 8)...)))
		w.failsAtOnce(t, would(11))
		// An update does.
		w.configure(t, pool(openai, exclusive, keys(span("a", 1, 5)...)))
		w.Apply(t)
		w.configure(t, pool(openai, exclusive, keys(span("a", 1, 8)...)))
		w.settled(t)
		if got := w.storedNames(t, openai); !slices.Equal(got, span("a", 1, 8)) {
			t.Errorf("stored are %v", got)
		}
	})
	t.Run("update", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.configure(t, pool(openai, keys(span("a", 1, 8)...)))
		w.Apply(t)
		for _, name := range []string{"x", "y"} {
			w.add(t, openai, name)
		}
		w.configure(t, pool(openai, keys(span("a", 1, 9)...)))
		w.failsAtOnce(t, would(11), "x", "y")
		// One that goes makes room.
		w.configure(t, pool(openai, keys(span("a", 2, 9)...)))
		w.settled(t)
	})
	t.Run("with single keys", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		singles := ""
		for _, name := range []string{"x", "y", "z"} {
			singles += keyResource(name, openai, name)
		}
		w.configure(t, pool(openai, keys(span("a", 1, 7)...)), singles)
		w.settled(t)
		w.configure(t, pool(openai, keys(span("a", 1, 8)...)), singles)
		w.wantError(t, []string{"plan"}, "11 keys, its cap is 10")
		w.configure(t, pool(openai, keys(span("a", 1, 7)...)), singles+keyResource("w", openai, "w"))
		w.wantError(t, []string{"plan"}, "11 keys, its cap is 10")
		// A single key that goes makes room for one of the pool.
		w.configure(t, pool(openai, keys(span("a", 1, 8)...)), keyResource("x", openai, "x")+keyResource("y", openai, "y"))
		w.settled(t)
	})
	t.Run("cap_check off", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Env = append(w.Env, "BYOK_CAP_CHECK=off")
		w.configure(t, pool(openai, keys(span("a", 1, 11)...), "timeouts {\n    create = \"2s\"\n  }"))
		if planned := w.Plan(t); planned.Exit != 2 {
			t.Errorf("the plan fails:\n%s", planned.Output)
		}
		w.wantError(t, []string{"apply", "-auto-approve"}, `Pool "openai" is full`, "The pool was not created", "The 10 keys that this apply had added")
		if got := w.storedNames(t, openai); len(got) != 0 {
			t.Errorf("stored are %v", got)
		}
	})
}

// failsAtOnce wants a plan to fail in less time than a ledger waits.
func (w *world) failsAtOnce(t *testing.T, texts ...string) {
	t.Helper()
	w.configured(t)
	start := time.Now()
	w.wantError(t, []string{"plan"}, texts...)
	took := time.Since(start)
	start = time.Now()
	w.Must(t, "validate", "-no-color")
	// On a busy machine terraform alone takes seconds.
	if limit := ledger.DefaultQuiet + 2*time.Since(start); took > limit {
		t.Errorf("the plan took %v, more than %v", took, limit)
	}
}

// configured checks that the configuration is valid, so that a plan fails for
// the reason that a test is about.
func (w *world) configured(t *testing.T) { t.Helper(); w.Must(t, "validate", "-no-color") }

// An exclusive pool is alone in its pool.
func TestExclusiveIsAlone(t *testing.T) {
	t.Parallel()
	for title, other := range map[string]string{
		"key":  keyResource("other", openai, "other"),
		"pool": poolWith("other", openai, keys("other")),
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, pool(openai, keys("a")), other)
			w.settled(t)
			w.configure(t, pool(openai, exclusive, keys("a")), other)
			w.wantError(t, []string{"plan"}, `Exclusive pool "openai" has keys in another resource`)
			w.wantError(t, []string{"plan", "-parallelism=1"}, `Exclusive pool "openai" has keys in another resource`)
			// In another pool it is no matter.
			w.configure(t, pool(openai, exclusive, keys("a")), keyResource("elsewhere", "google", "other"))
			w.Apply(t)
			w.settled(t)
			w.settled(t, "-replace=byok_pool.openai")
		})
	}
}

// A full pool whose resource has a new address, and a key that goes from one
// resource of a pool to another, are no cap errors, in whatever order Terraform
// plans the two resources.
func TestNewAddress(t *testing.T) {
	t.Parallel()
	all := span("a", 1, 10)
	for title, tc := range map[string]struct{ before, after []string }{
		"of a resource": {
			[]string{pool(openai, keys(all...))},
			[]string{poolWith("other", openai, keys(all...))},
		},
		"of a key": {
			[]string{poolWith("one", openai, keys(all[:5]...)), poolWith("two", openai, keys(all[5:]...))},
			[]string{poolWith("one", openai, keys(all[:4]...)), poolWith("two", openai, keys(all[4:]...))},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, tc.before...)
			w.settled(t)
			w.configure(t, tc.after...)
			for range 3 {
				if planned := w.Plan(t); planned.Exit != 2 {
					t.Fatalf("the plan fails:\n%s", planned.Output)
				}
			}
			w.settled(t)
			if got := w.storedNames(t, openai); len(got) != len(all) {
				t.Errorf("stored are %v", got)
			}
		})
	}
	t.Run("moved", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.configure(t, pool(openai, keys(all...)))
		w.settled(t)
		w.configure(t, poolWith("other", openai, keys(all...)), "moved {\n  from = byok_pool.openai\n  to   = byok_pool.other\n}\n")
		before := w.storedIDs(t, openai)
		w.wantEmptyPlan(t, "-parallelism=1")
		w.Apply(t)
		if got := w.storedIDs(t, openai); !maps.Equal(got, before) {
			t.Errorf("stored are %v, before %v", got, before)
		}
	})
}
