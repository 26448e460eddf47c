package pool

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
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
		refused := w.failsAtOnce(t, would(11), "A create leaves the keys above alone, even with exclusive = true. To have them removed, import the pool first.")
		wantSaysNot(t, refused, "Exclusive pool holds other keys") // the next plan would show the same error
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
		w.wantError(t, []string{"apply", "-auto-approve"}, `Pool "openai" is full`, "The pool was not created", "was removed again: 10 keys.")
		if got := w.storedNames(t, openai); len(got) != 0 {
			t.Errorf("stored are %v", got)
		}
	})
}

// failsAtOnce wants a plan to fail in less time than a ledger waits.
func (w *world) failsAtOnce(t *testing.T, texts ...string) tfrun.Result {
	t.Helper()
	w.configured(t)
	start := time.Now()
	refused := w.wantError(t, []string{"plan"}, texts...)
	took := time.Since(start)
	start = time.Now()
	w.Must(t, "validate", "-no-color")
	// On a busy machine terraform alone takes seconds.
	if limit := ledger.DefaultQuiet/3 + 3*time.Since(start); took > limit {
		t.Errorf("the plan took %v, more than %v", took, limit)
	}
	return refused
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

// A full pool whose resource has a new address keeps its keys with a moved
// block.
func TestNewAddress(t *testing.T) {
	t.Parallel()
	all := span("a", 1, 10)
	w := newWorld(t)
	w.configure(t, pool(openai, keys(all...)))
	w.settled(t)
	w.configure(t, poolWith("other", openai, keys(all...)), "moved {\n  from = byok_pool.openai\n  to   = byok_pool.other\n}\n")
	before := w.storedIDs(t, openai)
	wantSays(t, w.Plan(t, "-parallelism=1"), "0 to add, 0 to change, 0 to destroy")
	w.settled(t)
	if got := w.storedIDs(t, openai); !maps.Equal(got, before) {
		t.Errorf("stored are %v, before %v", got, before)
	}
}

// terraform test plans and applies in turn. From 1.13 on it configures the
// provider of a test file once for all of its runs.
func TestTerraformTest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, `
variable "n" { type = number }

resource "byok_pool" "openai" {
  provider_id = "openai"
  keys        = { for i in range(var.n) : "k${i}" => { api_key_wo = "sk-test-0123456789-${i}" } }
}

resource "byok_key" "google" {
  count       = var.n
  provider_id = "google"
  name        = "k${count.index}"
  api_key_wo  = "sk-test-0123456789-${count.index}"
}
`)
	file := fmt.Sprintf("provider \"byok\" {\n  endpoint = %q\n}\n", w.server.URL)
	run := func(name, command string, n int) {
		file += fmt.Sprintf("run %q {\n  command = %s\n  variables {\n    n = %d\n  }\n}\n", name, command, n)
		w.Write(t, "cap.tftest.hcl", file)
	}
	run("a_plan", "plan", 8)
	run("the_same_plan", "plan", 8)
	run("an_apply", "apply", 8)
	run("a_plan_after_it", "plan", 10)
	w.Must(t, "test", "-no-color")
	if left := w.server.List(t, w.server.WorkspaceID); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	run("too_many", "plan", 11)
	w.wantError(t, []string{"test"}, would(11), `Pool "google" would hold 11 keys, its cap is 10`)
}
