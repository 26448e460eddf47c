package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var whole = byok.Pool{Scope: byok.WorkspaceScope("ws"), ProviderID: "openai"}

// holding returns a ledger of a workspace that stores n keys, id-0 and up, in
// the pool, and the key elsewhere in another one.
func holding(n int, quiet time.Duration) *Ledger {
	return New(Config{Quiet: quiet, List: func(context.Context, byok.Scope) ([]byok.Key, error) {
		keys := []byok.Key{{ID: "elsewhere", ProviderID: "exa"}}
		for i := range n {
			keys = append(keys, byok.Key{ID: fmt.Sprintf("id-%d", i), ProviderID: whole.ProviderID})
		}
		return keys, nil
	}})
}

func ids(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("id-%d", i))
	}
	return all
}

// declare is one call of a plan that declares a pool.
func declare(t *testing.T, l *Ledger, change PoolChange) Verdict {
	t.Helper()
	call := l.Begin()
	defer call.End()
	return call.Pool(t.Context(), whole, change)
}

// waitForCreates returns once the plan has counted n new keys of the pool and
// has seen the list.
func waitForCreates(t *testing.T, l *Ledger, n int) {
	t.Helper()
	for {
		l.mu.Lock()
		totals := l.plan.totals(whole)
		done := totals.created == n && totals.listing != nil
		l.mu.Unlock()
		if done {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		stored int
		// plan makes the calls of one plan and returns the last verdict.
		plan func(*testing.T, *Ledger) Verdict
		over int // keys that the pool would hold; 0 for no error
	}{
		"11 created":           {0, func(t *testing.T, l *Ledger) Verdict { return declare(t, l, PoolChange{Added: 11}) }, 11},
		"10 created":           {0, func(t *testing.T, l *Ledger) Verdict { return declare(t, l, PoolChange{Added: 10}) }, 0},
		"8 beside 3 unmanaged": {3, func(t *testing.T, l *Ledger) Verdict { return declare(t, l, PoolChange{Added: 8}) }, 11},
		"exclusive create":     {3, func(t *testing.T, l *Ledger) Verdict { return declare(t, l, PoolChange{Added: 8, Exclusive: true}) }, 11},
		"exclusive update": {4, func(t *testing.T, l *Ledger) Verdict {
			return declare(t, l, PoolChange{Kept: ids(0, 1), Removed: ids(1, 4), Added: 9, Exclusive: true})
		}, 0},
		"swap at the cap": {10, func(t *testing.T, l *Ledger) Verdict {
			return declare(t, l, PoolChange{Removed: ids(0, 10), Added: 10})
		}, 0},
		"too full, unchanged": {12, func(t *testing.T, l *Ledger) Verdict { return declare(t, l, PoolChange{Kept: ids(0, 12)}) }, 0},
		"a newcomer":          {10, func(t *testing.T, l *Ledger) Verdict { return declare(t, l, PoolChange{Kept: ids(0, 9), Added: 1}) }, 11},
		"replaced by -replace": {10, func(t *testing.T, l *Ledger) Verdict {
			declare(t, l, PoolChange{Kept: ids(0, 10), Exclusive: true})
			return declare(t, l, PoolChange{Added: 10, Exclusive: true, Replaces: true, Replaced: ids(0, 10)})
		}, 0},
		"replaced, with changes": {10, func(t *testing.T, l *Ledger) Verdict {
			declare(t, l, PoolChange{Removed: ids(0, 10), Added: 10})
			return declare(t, l, PoolChange{Added: 10, Replaces: true, Replaced: ids(0, 10)})
		}, 0},
		"replaced, exclusive, beside another": {10, func(t *testing.T, l *Ledger) Verdict {
			declare(t, l, PoolChange{Kept: ids(0, 9), Removed: ids(9, 10), Exclusive: true})
			// The create removes no key of another user.
			return declare(t, l, PoolChange{Added: 10, Exclusive: true, Replaces: true, Replaced: ids(0, 9)})
		}, 11},
		"replaced, empty": {0, func(t *testing.T, l *Ledger) Verdict {
			declare(t, l, PoolChange{Added: 10})
			return declare(t, l, PoolChange{Added: 10, Replaces: true})
		}, 0},
		"replaced, beside a new resource": {3, func(t *testing.T, l *Ledger) Verdict {
			declare(t, l, PoolChange{Added: 6})
			declare(t, l, PoolChange{Kept: ids(0, 3)})
			return declare(t, l, PoolChange{Added: 5, Replaces: true, Replaced: ids(0, 3)})
		}, 11},
		"replaced from another pool": {10, func(t *testing.T, l *Ledger) Verdict {
			return declare(t, l, PoolChange{Added: 1, Replaces: true, Replaced: []string{"elsewhere"}})
		}, 11},
		"tainted": {10, func(t *testing.T, l *Ledger) Verdict {
			call := l.Begin()
			call.ReadPool(whole, ids(0, 10))
			call.End()
			return declare(t, l, PoolChange{Added: 10})
		}, 0},
		"removed resource": {10, func(t *testing.T, l *Ledger) Verdict {
			call := l.Begin()
			call.RemovePool(whole, ids(0, 10))
			call.End()
			return declare(t, l, PoolChange{Added: 10})
		}, 0},
		"with single keys": {3, func(t *testing.T, l *Ledger) Verdict {
			for _, id := range ids(0, 3) {
				call := l.Begin()
				call.Keep(t.Context(), whole, id)
				call.End()
			}
			return declare(t, l, PoolChange{Added: 8})
		}, 11},
		"single keys that go later": {10, func(t *testing.T, l *Ledger) Verdict {
			call := l.Begin()
			call.Read(whole, "id-0")
			call.End()
			verdicts := make(chan Verdict)
			go func() { verdicts <- declare(t, l, PoolChange{Kept: ids(1, 10), Added: 1}) }()
			call = l.Begin()
			call.Remove(whole, "id-0")
			call.End()
			return <-verdicts
		}, 0},
		"another resource that goes later": {10, func(t *testing.T, l *Ledger) Verdict {
			verdicts := make(chan Verdict)
			go func() { verdicts <- declare(t, l, PoolChange{Added: 10}) }()
			waitForCreates(t, l, 10)
			call := l.Begin()
			call.ReadPool(whole, ids(0, 10))
			call.End()
			call = l.Begin()
			call.RemovePool(whole, ids(0, 10))
			call.End()
			return <-verdicts
		}, 0},
		"a key that goes later from another resource": {10, func(t *testing.T, l *Ledger) Verdict {
			verdicts := make(chan Verdict)
			go func() { verdicts <- declare(t, l, PoolChange{Kept: ids(0, 5), Added: 1}) }()
			waitForCreates(t, l, 1)
			if verdict := declare(t, l, PoolChange{Kept: ids(5, 9), Removed: ids(9, 10)}); len(verdict.Over) > 0 {
				t.Error("reported at the resource that removes a key")
			}
			return <-verdicts
		}, 0},
		"applying": {10, func(t *testing.T, l *Ledger) Verdict { l.Apply(); return declare(t, l, PoolChange{Added: 10}) }, 0},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			// Where no error is wanted, it has to be cleared before the wait ends.
			quiet := time.Minute
			if tc.over > 0 {
				quiet = 50 * time.Millisecond
			}
			verdict := tc.plan(t, holding(tc.stored, quiet))
			switch {
			case tc.over == 0 && len(verdict.Over) == 0:
			case len(verdict.Over) != 1:
				t.Fatalf("%d errors, want one for %d keys", len(verdict.Over), tc.over)
			case verdict.Over[0].Total() != tc.over:
				t.Errorf("the pool would hold %d keys, want %d", verdict.Over[0].Total(), tc.over)
			case verdict.Over[0].Whole == strings.Contains(title, "single keys"):
				t.Errorf("whole pools alone: %t", verdict.Over[0].Whole)
			}
			if verdict.Shared != nil {
				t.Errorf("reported as shared: %s", verdict.Shared.Detail())
			}
		})
	}
}

// A pool that swaps its keys waits for no other resource, so that nobody is
// warned of creates that do.
func TestSwapIsNotCrowded(t *testing.T) {
	t.Parallel()
	l := holding(byok.Cap, 50*time.Millisecond)
	declare(t, l, PoolChange{Removed: ids(0, byok.Cap), Added: byok.Cap})
	call := l.Begin()
	defer call.End()
	if v := call.Create(t.Context(), byok.Pool{Scope: whole.Scope, ProviderID: "exa"}, ""); v.Crowded != nil || len(v.Over) > 0 {
		t.Errorf("a create beside a swap: %+v", v)
	}
}

// A pool that adds nothing is not listed.
func TestPoolWithoutAddsIsNotListed(t *testing.T) {
	t.Parallel()
	down := New(Config{List: func(context.Context, byok.Scope) ([]byok.Key, error) { return nil, errors.New("down") }})
	if v := declare(t, down, PoolChange{Kept: ids(0, 1), Removed: ids(1, 2)}); v.ListFailed != nil {
		t.Errorf("no key is added, but %v", v.ListFailed)
	}
	if v := declare(t, down, PoolChange{Added: 1}); v.ListFailed == nil {
		t.Error("a key is added, and the list that failed is not reported")
	}
}

// The fast path keeps what there is nothing to say of.
func TestKeepPoolUnchanged(t *testing.T) {
	t.Parallel()
	keep := func(l *Ledger, exclusive bool) bool {
		call := l.Begin()
		defer call.End()
		return call.KeepPoolUnchanged(whole, ids(0, 1), exclusive)
	}
	for title, tc := range map[string]struct {
		before    func(*Ledger)
		exclusive bool
		want      bool
	}{
		"alone":                     {func(*Ledger) {}, false, true},
		"exclusive, alone":          {func(*Ledger) {}, true, true},
		"beside another":            {func(l *Ledger) { keep(l, false) }, false, true},
		"exclusive, beside another": {func(l *Ledger) { keep(l, false) }, true, false},
		"beside an exclusive one":   {func(l *Ledger) { keep(l, true) }, false, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			l := holding(2, 50*time.Millisecond)
			if tc.before(l); keep(l, tc.exclusive) != tc.want {
				t.Errorf("kept: %t, want %t", !tc.want, tc.want)
			}
		})
	}
}

// An exclusive pool beside any other resource is an error at whichever comes
// second, once.
func TestExclusivePoolIsAlone(t *testing.T) {
	t.Parallel()
	exclusive := func(t *testing.T, l *Ledger) bool {
		return declare(t, l, PoolChange{Kept: ids(0, 1), Exclusive: true}).Shared != nil
	}
	for title, other := range map[string]func(*testing.T, *Ledger) bool{
		"pool": func(t *testing.T, l *Ledger) bool { return declare(t, l, PoolChange{Kept: ids(1, 2)}).Shared != nil },
		"exclusive": func(t *testing.T, l *Ledger) bool {
			return declare(t, l, PoolChange{Kept: ids(1, 2), Exclusive: true}).Shared != nil
		},
		"kept key": func(t *testing.T, l *Ledger) bool {
			call := l.Begin()
			defer call.End()
			return call.Keep(t.Context(), whole, "id-1").Shared != nil
		},
		"new key": func(t *testing.T, l *Ledger) bool {
			call := l.Begin()
			defer call.End()
			return call.Create(t.Context(), whole, "").Shared != nil
		},
	} {
		for order, calls := range map[string][2]func(*testing.T, *Ledger) bool{"first": {exclusive, other}, "last": {other, exclusive}} {
			t.Run(title+", exclusive "+order, func(t *testing.T) {
				t.Parallel()
				l := holding(2, 50*time.Millisecond)
				if calls[0](t, l) {
					t.Error("the first resource is an error")
				}
				if !calls[1](t, l) {
					t.Error("the second resource is no error")
				}
				if calls[1](t, l) {
					t.Error("a third resource is one more error")
				}
			})
		}
	}
	// The fast path leaves it to the others to report it.
	l := holding(2, 50*time.Millisecond)
	exclusive(t, l)
	call := l.Begin()
	defer call.End()
	if call.KeepUnchanged(whole, "id-1") || call.KeepPoolUnchanged(whole, ids(1, 2), false) {
		t.Error("kept beside an exclusive pool")
	}
	// A key that goes, or is only read, is no other resource.
	l = holding(2, 50*time.Millisecond)
	gone := l.Begin()
	gone.Read(whole, "id-1")
	gone.Remove(whole, "id-1")
	gone.End()
	if exclusive(t, l) {
		t.Error("a key that goes counts as another resource")
	}
}

// A key of two resources is an error at whichever is planned second, unless both
// remove it.
func TestContested(t *testing.T) {
	t.Parallel()
	read := func(_ *testing.T, call *Call) { call.Read(whole, "id-1") }
	readPool := func(_ *testing.T, call *Call) { call.ReadPool(whole, ids(0, 2)) }
	keep := func(t *testing.T, call *Call) { t.Helper(); call.Keep(t.Context(), whole, "id-1") }
	remove := func(_ *testing.T, call *Call) { call.Remove(whole, "id-1") }
	replace := func(t *testing.T, call *Call) {
		t.Helper()
		call.Replace(t.Context(), whole, "id-1", whole)
		call.Create(t.Context(), whole, "id-1")
	}
	pool := func(change PoolChange) func(*testing.T, *Call) {
		return func(t *testing.T, call *Call) { t.Helper(); call.Pool(t.Context(), whole, change) }
	}
	keepPool := pool(PoolChange{Kept: ids(0, 2)})
	removeInPool := pool(PoolChange{Kept: ids(0, 1), Removed: ids(1, 2)})
	removePool := func(_ *testing.T, call *Call) { call.RemovePool(whole, ids(0, 2)) }
	replacePool := func(t *testing.T, call *Call) {
		t.Helper()
		keepPool(t, call)
		pool(PoolChange{Added: 2, Replaces: true, Replaced: ids(0, 2)})(t, call)
	}
	otherPool := pool(PoolChange{Kept: ids(0, 1)})
	for title, tt := range map[string]struct {
		key, pool func(*testing.T, *Call)
		want      bool
	}{
		"both keep it":                     {keep, keepPool, true},
		"the pool removes it":              {keep, removeInPool, true},
		"the pool goes":                    {keep, removePool, true},
		"the pool is replaced":             {keep, replacePool, true},
		"the key goes":                     {remove, keepPool, true},
		"the key is replaced":              {replace, keepPool, true},
		"both remove it":                   {remove, removeInPool, false},
		"both go":                          {remove, removePool, false},
		"the key is only read":             {read, keepPool, false},
		"the pool is only read":            {keep, readPool, false},
		"the pool does not have this one":  {keep, otherPool, false},
		"both are replaced":                {replace, replacePool, false},
		"the key is only read, as removed": {read, removePool, false},
	} {
		for order, calls := range map[string][2]func(*testing.T, *Call){"key first": {tt.key, tt.pool}, "pool first": {tt.pool, tt.key}} {
			t.Run(title+", "+order, func(t *testing.T) {
				t.Parallel()
				l := holding(2, 50*time.Millisecond)
				begin := func() *Call {
					call := l.Begin()
					t.Cleanup(call.End)
					return call
				}
				calls[0](t, begin())
				first := begin().Contested(whole, ids(0, 2)...)
				second := begin()
				calls[1](t, second)
				got := second.Contested(whole, ids(0, 2)...)
				if first != nil || (got != nil) != tt.want {
					t.Fatalf("first %v, then %v, want an error: %t", first, got, tt.want)
				}
				if got == nil {
					return
				}
				if detail := got.Detail(); !strings.Contains(detail, "\n  id-1\n") || strings.Contains(detail, "id-0") {
					t.Errorf("it is about other keys:\n%s", detail)
				}
				if again := begin().Contested(whole, "id-1"); again != nil {
					t.Errorf("it is reported twice: %v", again)
				}
			})
		}
	}
	// The fast path leaves it to the others to report it.
	for title, tt := range map[string]func(call *Call) bool{
		"key":  func(call *Call) bool { keepPool(t, call); return call.KeepUnchanged(whole, "id-1") },
		"pool": func(call *Call) bool { keep(t, call); return call.KeepPoolUnchanged(whole, ids(0, 2), false) },
	} {
		call := holding(2, 50*time.Millisecond).Begin()
		if tt(call) {
			t.Errorf("the fast path keeps the %s", title)
		}
		call.End()
	}
}

// A pool without single keys is reported long before one with some.
func TestQuietTime(t *testing.T) {
	t.Parallel()
	p := newPlan(byok.Cap, DefaultParallelism, DefaultQuiet, DefaultTakeover)
	over := p.totals(whole)
	p.overfull[over] = struct{}{}
	if got := p.quietTime(); got > 300*time.Millisecond {
		t.Errorf("%s for whole pools, want a quarter of a second", got)
	}
	over.singles = true
	if got := p.quietTime(); got != DefaultQuiet {
		t.Errorf("%s beside single keys, want %s", got, DefaultQuiet)
	}
}
