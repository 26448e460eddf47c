package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var (
	openai    = byok.Pool{Scope: byok.WorkspaceScope("ws"), ProviderID: "openai"}
	anthropic = byok.Pool{Scope: byok.WorkspaceScope("ws"), ProviderID: "anthropic"}
)

// TestConcurrentPlans plays random plans with goroutines, locks and timers.
func TestConcurrentPlans(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		w := newRandomPlan(seed)
		synctest.Test(t, func(t *testing.T) {
			reported, lists := map[byok.Pool]int{}, map[string]int{}
			var mu sync.Mutex
			l := New(Config{Cap: w.cap, Quiet: simulatedQuiet, Takeover: w.takeover, List: func(_ context.Context, scope byok.Scope) ([]byok.Key, error) {
				mu.Lock()
				lists[scope.ID]++
				mu.Unlock()
				time.Sleep(w.listTakes[scope.ID])
				if w.listFails[scope.ID] {
					return nil, errList
				}
				return w.stored[scope.ID], nil
			}})
			l.plan.parallelism = w.crowdedAt
			failed, crowded := map[string]int{}, 0
			report := func(v Verdict) {
				mu.Lock()
				defer mu.Unlock()
				if v.ListFailed != nil {
					failed[v.ListFailed.Scope.ID]++
				}
				if v.Crowded != nil {
					crowded++
					if err := w.checkCrowded(v.Crowded); err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
				}
				for _, o := range v.Over {
					reported[o.Pool]++
					if err := w.checkOver(o); err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
					if w.decidable && !w.over(o.Pool) {
						t.Errorf("seed %d: false alarm: %+v", seed, o)
					}
				}
			}

			slots := make(chan struct{}, w.parallelism)
			done := make([]chan struct{}, len(w.nodes))
			for i := range done {
				done[i] = make(chan struct{})
			}
			for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(len(w.nodes)) {
				go func() {
					defer close(done[i])
					for _, j := range w.nodes[i].dependsOn {
						<-done[j]
					}
					slots <- struct{}{}
					defer func() { <-slots }()
					for _, s := range w.nodes[i].steps {
						time.Sleep(s.gap)
						if s.op != opForeign {
							report(play(l, s, seed%2 == 0))
						}
					}
				}()
			}
			for _, d := range done {
				<-d
			}

			if err := w.checkReported(reported, crowded); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			for workspaceID, n := range lists {
				if n > 1 {
					t.Errorf("seed %d: workspace listed %d times", seed, n)
				}
				if want := map[bool]int{true: 1}[w.listFails[workspaceID]]; failed[workspaceID] != want {
					t.Errorf("seed %d: %d failures, want %d", seed, failed[workspaceID], want)
				}
			}
		})
	}
}

// play makes the calls of a step; hasty tries KeepUnchanged first.
func play(l *Ledger, s step, hasty bool) (verdict Verdict) {
	if hasty && s.op == opKeep {
		call := l.Begin()
		ok := call.KeepUnchanged(s.pool, s.keyID)
		call.End()
		if ok {
			return Verdict{}
		}
	}
	call := l.Begin()
	defer call.End()
	time.Sleep(s.before)
	switch s.op {
	case opRead:
		call.Read(s.pool, s.keyID)
	case opKeep:
		verdict = call.Keep(context.Background(), s.pool, s.keyID)
	case opRemove:
		call.Remove(s.pool, s.keyID)
	case opReplace:
		verdict = call.Replace(context.Background(), s.from, s.keyID, s.pool)
	case opCreate:
		verdict = call.Create(context.Background(), s.pool, s.keyID)
	}
	time.Sleep(s.after)
	return verdict
}

// script is a ledger whose calls a test makes by hand, in virtual time.
type script struct {
	*testing.T
	ledger *Ledger
	start  time.Time
	lists  int
}

// runScript runs a test on a ledger of cap 3.
func runScript(t *testing.T, stored []byok.Key, listErr error, test func(p *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &script{T: t, start: time.Now()}
		p.ledger = New(Config{Cap: 3, List: func(context.Context, byok.Scope) ([]byok.Key, error) {
			p.lists++
			return stored, listErr
		}})
		test(p)
	})
}

func (p *script) read(pool byok.Pool, id string)   { p.call(func(c *Call) { c.Read(pool, id) }) }
func (p *script) remove(pool byok.Pool, id string) { p.call(func(c *Call) { c.Remove(pool, id) }) }

func (p *script) keep(pool byok.Pool, id string) (v Verdict) {
	p.call(func(c *Call) { v = c.Keep(p.Context(), pool, id) })
	return v
}

func (p *script) create(pool byok.Pool, replacedID string) (v Verdict) {
	p.call(func(c *Call) { v = c.Create(p.Context(), pool, replacedID) })
	return v
}

func (p *script) replace(from byok.Pool, id string, to byok.Pool) (v Verdict) {
	p.call(func(c *Call) { v = c.Replace(p.Context(), from, id, to) })
	return v
}

func (p *script) call(do func(*Call)) {
	c := p.ledger.Begin()
	defer c.End()
	do(c)
}

// createBeside makes a create that may wait for the rest of the test.
func (p *script) createBeside(ctx context.Context, pool byok.Pool) <-chan Verdict {
	verdict := make(chan Verdict, 1)
	go p.call(func(c *Call) { verdict <- c.Create(ctx, pool, "") })
	synctest.Wait()
	return verdict
}

func (p *script) wantAt(want time.Duration) {
	p.Helper()
	if got := time.Since(p.start); got != want {
		p.Errorf("it is %v, want %v", got, want)
	}
}

// want compares a verdict with the pools that it should report.
func (p *script) want(got Verdict, pools ...byok.Pool) {
	p.Helper()
	var over []byok.Pool
	for _, o := range got.Over {
		over = append(over, o.Pool)
	}
	if !cmp.Equal(over, pools) {
		p.Errorf("over: %v, want %v", over, pools)
	}
}

func (p *script) waits(verdict <-chan Verdict) {
	p.Helper()
	synctest.Wait()
	select {
	case v := <-verdict:
		p.Fatalf("the create has returned: %+v", v)
	default:
	}
}

func storedIn(pool byok.Pool, ids ...string) []byok.Key {
	var keys []byok.Key
	for i, id := range ids {
		keys = append(keys, byok.Key{ID: id, ProviderID: pool.ProviderID, CreatedAt: fmt.Sprint(i)})
	}
	return keys
}

func TestPlans(t *testing.T) {
	t.Parallel()
	full := storedIn(openai, "a", "b", "c")
	for name, tc := range map[string]struct {
		stored []byok.Key
		err    error
		test   func(p *script)
	}{
		"a create beside unmanaged keys is over after the quiet time": {stored: full, test: func(p *script) {
			v := p.create(openai, "")
			p.wantAt(DefaultQuiet)
			want := []*OverCap{{Pool: openai, Cap: 3, Stored: 3, Added: 1, Unmanaged: full, Settled: true, Sequential: true}}
			if diff := cmp.Diff(want, v.Over); diff != "" {
				p.Error(diff)
			}
		}},
		"a create beside managed keys is over, whatever comes first": {stored: full, test: func(p *script) {
			p.keep(openai, "a")
			verdict := p.createBeside(p.Context(), openai)
			p.keep(openai, "b")
			p.want(p.keep(openai, "c"))
			v := <-verdict
			p.wantAt(DefaultQuiet)
			want := []*OverCap{{Pool: openai, Cap: 3, Stored: 3, Kept: 3, Added: 1, Certain: true, Settled: true}}
			if diff := cmp.Diff(want, v.Over); diff != "" {
				p.Error(diff)
			}
		}},
		"a swap waits for the removal and not a moment longer": {stored: full, test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			time.Sleep(time.Second)
			p.remove(openai, "b")
			p.want(<-verdict)
			p.wantAt(time.Second)
		}},
		"a swap that removes first does not wait": {stored: full, test: func(p *script) {
			p.remove(openai, "b")
			p.want(p.create(openai, ""))
			p.wantAt(0)
		}},
		"a replace does not wait": {stored: full, test: func(p *script) {
			p.want(p.replace(openai, "b", openai))
			p.want(p.create(openai, "b"))
			p.wantAt(0)
		}},
		"-replace looks like a keep first": {stored: full, test: func(p *script) {
			p.want(p.keep(openai, "b"))
			p.want(p.create(openai, "b"))
			p.wantAt(0)
		}},
		"a replace that is planned twice counts once": {stored: full, test: func(p *script) {
			for range 2 {
				p.want(p.replace(openai, "b", openai))
				p.want(p.create(openai, "b"))
			}
			p.wantAt(0)
		}},
		"a removed key stays removed": {stored: full, test: func(p *script) {
			p.remove(openai, "b")
			p.want(p.keep(openai, "b"))
			p.want(p.create(openai, ""))
			p.wantAt(0)
		}},
		"a read after the plan changes nothing": {stored: full, test: func(p *script) {
			for _, id := range []string{"a", "b", "c"} {
				p.keep(openai, id)
				p.read(openai, id)
			}
			p.want(p.create(openai, ""), openai)
		}},
		"a tainted key is read and not planned": {stored: full, test: func(p *script) {
			p.read(openai, "b")
			p.want(p.create(openai, ""))
			p.wantAt(DefaultQuiet)
			p.want(p.create(openai, ""), openai)
			p.wantAt(2 * DefaultQuiet)
		}},
		"a key that was slow to be planned is not tainted": {stored: full, test: func(p *script) {
			p.read(openai, "b")
			p.want(p.create(openai, ""))
			p.want(p.keep(openai, "b"), openai)
			p.wantAt(2 * DefaultQuiet)
		}},
		"a key can move to another pool": {stored: full, test: func(p *script) {
			p.want(p.replace(openai, "b", anthropic))
			p.want(p.create(anthropic, "b"))
			p.want(p.create(openai, ""))
			p.want(p.create(openai, ""), openai)
		}},
		"a key that moves to a full pool is over there": {stored: append(storedIn(anthropic, "x"), full...), test: func(p *script) {
			p.want(p.replace(anthropic, "x", openai), openai)
			p.want(p.create(openai, "x"))
			p.wantAt(DefaultQuiet)
		}},
		"the second call of a replace does not report in place of another key": {stored: full, test: func(p *script) {
			first := p.createBeside(p.Context(), openai)
			time.Sleep(DefaultQuiet - 1)
			busy := p.ledger.Begin()
			time.Sleep(DefaultTakeover)
			p.read(openai, "a")
			p.want(p.create(openai, "a"))
			p.waits(first)
			busy.End()
			p.want(<-first, openai)
		}},
		"a pool that is too full and left alone is no error": {stored: storedIn(openai, "a", "b", "c", "d"), test: func(p *script) {
			for _, id := range []string{"a", "b", "c", "d"} {
				p.read(openai, id)
				p.want(p.keep(openai, id))
			}
			if p.lists != 0 {
				p.Error("listed without a create")
			}
		}},
		"a kept key that is no longer stored takes up no capacity": {stored: full[:2], test: func(p *script) {
			for _, id := range []string{"a", "b", "gone"} {
				p.want(p.keep(openai, id))
			}
			p.want(p.create(openai, ""))
			p.wantAt(0)
		}},
		"one error per pool": {test: func(p *script) {
			for range 3 {
				p.want(p.create(openai, ""))
			}
			p.want(p.create(openai, ""), openai)
			p.want(p.create(openai, ""))
			p.wantAt(DefaultQuiet)
			if p.lists != 1 {
				p.Errorf("%d lists, want 1", p.lists)
			}
		}},
		"one call waits for all pools": {stored: append(storedIn(anthropic, "x", "y", "z"), full...), test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			p.want(p.create(anthropic, ""))
			p.want(p.create(anthropic, ""))
			p.want(p.create(openai, ""))
			p.wantAt(0)
			p.want(<-verdict, anthropic, openai)
			p.wantAt(DefaultQuiet)
		}},
		"the call that waits goes on waiting for the other pools": {stored: append(storedIn(anthropic, "x", "y", "z"), full...), test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			p.want(p.create(anthropic, ""))
			p.remove(openai, "a")
			p.waits(verdict)
			p.want(<-verdict, anthropic)
		}},
		"a certain error of another pool does not wait": {stored: full, test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			for range 3 {
				p.want(p.create(anthropic, ""))
			}
			v := p.create(anthropic, "")
			p.wantAt(0)
			want := []*OverCap{{Pool: anthropic, Cap: 3, Added: 4, Certain: true}}
			if diff := cmp.Diff(want, v.Over); diff != "" {
				p.Error(diff)
			}
			p.want(<-verdict, openai)
		}},
		"the call that waits goes on at once when another reports what it waited for": {stored: append(storedIn(anthropic, "x", "y", "z"), full...), test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			p.want(p.create(anthropic, ""))
			p.remove(openai, "a")
			p.waits(verdict)
			for _, id := range []string{"x", "y"} {
				p.want(p.keep(anthropic, id))
			}
			p.want(p.keep(anthropic, "z"), anthropic)
			p.want(<-verdict)
			p.wantAt(0)
		}},
		"a call in flight puts off the verdict": {stored: full, test: func(p *script) {
			slow := p.ledger.Begin()
			verdict := p.createBeside(p.Context(), openai)
			time.Sleep(time.Minute)
			p.waits(verdict)
			slow.End()
			slow.End()
			p.want(<-verdict, openai)
			p.wantAt(time.Minute + DefaultQuiet)
		}},
		"every call puts off the verdict": {stored: full, test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			for range 9 {
				time.Sleep(DefaultQuiet - 1)
				p.call(func(*Call) {})
			}
			p.want(<-verdict, openai)
			p.wantAt(10*DefaultQuiet - 9)
		}},
		"a call that has waited long is taken over by the next": {stored: full, test: func(p *script) {
			first := p.createBeside(p.Context(), openai)
			busy := p.ledger.Begin()
			time.Sleep(DefaultTakeover - 1)
			p.want(p.create(openai, ""))
			p.waits(first)
			time.Sleep(time.Nanosecond)
			second := p.createBeside(p.Context(), anthropic)
			p.want(<-first)
			p.wantAt(DefaultTakeover)
			busy.End()
			p.want(<-second, openai)
			p.wantAt(DefaultTakeover + DefaultQuiet)
		}},
		"a call that is taken over reports what is certain": {test: func(p *script) {
			for range 3 {
				p.want(p.create(openai, ""))
			}
			first := p.createBeside(p.Context(), openai)
			busy := p.ledger.Begin()
			time.Sleep(DefaultTakeover)
			p.want(p.create(openai, ""))
			p.want(<-first, openai)
			p.wantAt(DefaultTakeover)
			busy.End()
		}},
		"a cancelled call reports nothing and the next takes its place": {stored: full, test: func(p *script) {
			ctx, cancel := context.WithCancel(p.Context())
			first := p.createBeside(ctx, openai)
			second := p.createBeside(p.Context(), openai)
			p.want(<-second)
			cancel()
			p.want(<-first)
			p.wantAt(0)
			p.want(p.keep(openai, "a"), openai)
		}},
		"an apply checks nothing": {stored: full, test: func(p *script) {
			p.ledger.Apply()
			p.want(p.create(openai, ""))
			p.want(p.keep(openai, "a"))
			p.wantAt(0)
			if p.lists != 0 {
				p.Error("listed in an apply")
			}
		}},
		"an apply ends a wait": {stored: full, test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			p.ledger.Apply()
			p.want(<-verdict)
			p.wantAt(0)
		}},
		"a list that failed is reported once and its scope not checked": {err: errList, test: func(p *script) {
			v := p.create(openai, "")
			if v.ListFailed == nil || v.ListFailed.Scope != openai.Scope || !errors.Is(v.ListFailed.Err, errList) {
				p.Errorf("list failed: %+v", v.ListFailed)
			}
			for range 5 {
				for _, v := range []Verdict{p.create(anthropic, ""), p.keep(openai, "a"), p.replace(openai, "b", openai)} {
					if p.want(v); v.ListFailed != nil {
						p.Error("reported twice")
					}
				}
			}
			p.wantAt(0)
			if p.lists != 1 {
				p.Errorf("%d lists, want 1", p.lists)
			}
		}},
		"a restart begins an empty plan": {stored: full, test: func(p *script) {
			for _, id := range []string{"a", "b", "c"} {
				p.remove(openai, id)
			}
			old := p.ledger.Begin()
			for range 3 {
				p.want(p.create(openai, ""))
			}
			p.ledger.Restart()
			p.want(p.create(openai, ""), openai)
			p.wantAt(DefaultQuiet)
			old.End()
			p.ledger.Apply()
			p.ledger.Restart()
			p.want(p.create(openai, ""), openai)
			p.wantAt(2 * DefaultQuiet)
			if p.lists != 3 {
				p.Errorf("%d lists, want 3", p.lists)
			}
		}},
		"a restart ends a wait": {stored: full, test: func(p *script) {
			verdict := p.createBeside(p.Context(), openai)
			p.ledger.Restart()
			p.want(<-verdict)
			p.wantAt(0)
		}},
		"a key that is read again begins a new plan": {stored: full[:1], test: func(p *script) {
			for range 3 {
				p.read(openai, "a")
				p.want(p.keep(openai, "a"))
				p.want(p.create(openai, ""))
				p.want(p.create(openai, ""))
			}
			p.wantAt(0)
		}},
		"many creates that wait for removals are a warning with the figures of the whole plan": {stored: full, test: func(p *script) {
			p.ledger.plan.parallelism = 2
			for _, id := range []string{"a", "b", "c"} {
				p.remove(openai, id)
			}
			p.want(p.create(openai, ""))
			verdict := p.createBeside(p.Context(), openai)
			time.Sleep(time.Second)
			p.want(p.create(openai, ""))
			v := <-verdict
			p.want(v)
			if diff := cmp.Diff(&Crowded{Creates: 3}, v.Crowded); diff != "" {
				p.Error(diff)
			}
			p.wantAt(time.Second + DefaultQuiet)
			if v := p.replace(anthropic, "x", openai); v.Crowded != nil {
				p.Error("warned twice")
			}
		}},
		"replacements within a pool wait for nothing": {stored: full, test: func(p *script) {
			p.ledger.plan.parallelism = 1
			for _, id := range []string{"a", "b", "c"} {
				p.want(p.replace(openai, id, openai))
				p.want(p.create(openai, id))
			}
			p.wantAt(0)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runScript(t, tc.stored, tc.err, tc.test)
		})
	}
}

func TestCancelledListIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lists := 0
		l := New(Config{Cap: 1, List: func(ctx context.Context, _ byok.Scope) ([]byok.Key, error) {
			if lists++; lists == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return storedIn(openai, "a"), nil
		}})
		p := &script{T: t, ledger: l, start: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		first := p.createBeside(ctx, openai)
		second := p.createBeside(t.Context(), openai)
		p.waits(second)
		cancel()
		if v := <-first; v.ListFailed != nil {
			t.Errorf("a cancelled list is reported: %v", v.ListFailed)
		}
		p.want(<-second, openai)
		if lists != 2 {
			t.Errorf("%d lists, want 2", lists)
		}
	})
}

func TestWorkspacesAreListedBesideEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{List: func(_ context.Context, scope byok.Scope) ([]byok.Key, error) {
			time.Sleep(time.Second)
			return nil, nil
		}})
		p := &script{T: t, ledger: l, start: time.Now()}
		var verdicts []<-chan Verdict
		for i := range 10 {
			verdicts = append(verdicts, p.createBeside(t.Context(), byok.Pool{Scope: byok.WorkspaceScope(fmt.Sprint(i)), ProviderID: "openai"}))
		}
		for _, v := range verdicts {
			p.want(<-v)
		}
		p.wantAt(time.Second)
	})
}

// KeepUnchanged declines once a pool is overfull, which that very key can
// cause. The Keep that follows then reports.
func TestKeepUnchanged(t *testing.T) {
	t.Parallel()
	unchanged := func(p *script, id string) (ok bool) {
		p.call(func(c *Call) { ok = c.KeepUnchanged(openai, id) })
		return ok
	}
	runScript(t, storedIn(openai, "a", "b", "c"), nil, func(p *script) {
		if !unchanged(p, "a") || p.lists != 0 {
			t.Errorf("declines although nothing is created, or %d lists", p.lists)
		}
		p.read(openai, "b")
		p.want(p.create(openai, "")) // presumes that b is removed
		for range 2 {
			if unchanged(p, "b") {
				t.Error("does not decline although the pool is over its cap with this key")
			}
		}
		p.want(p.keep(openai, "b"), openai)
		if !unchanged(p, "c") {
			t.Error("declines although everything is reported")
		}
	})
}

func TestNilLedgerChecksNothing(t *testing.T) {
	t.Parallel()
	var l *Ledger
	l.Apply()
	call := l.Begin()
	defer call.End()
	if !call.KeepUnchanged(openai, "a") {
		t.Error("waits")
	}
	call.Read(openai, "a")
	call.Remove(openai, "a")
	l.Restart()
	for _, v := range []Verdict{
		call.Keep(t.Context(), openai, "a"), call.Create(t.Context(), openai, ""), call.Replace(t.Context(), openai, "a", anthropic),
	} {
		if !cmp.Equal(v, Verdict{}) {
			t.Errorf("verdict %+v", v)
		}
	}
}

// BenchmarkPlan is the plan of 1,000 keys in 100 full pools, one in ten of
// them swapped.
func BenchmarkPlan(b *testing.B) {
	var stored []byok.Key
	for i := range 1000 {
		stored = append(stored, byok.Key{ID: fmt.Sprint(i), ProviderID: fmt.Sprint(i / 10)})
	}
	for b.Loop() {
		l := New(Config{List: func(context.Context, byok.Scope) ([]byok.Key, error) { return stored, nil }})
		for i, key := range stored {
			pool := byok.Pool{Scope: byok.WorkspaceScope("ws"), ProviderID: key.ProviderID}
			call := l.Begin()
			call.Read(pool, key.ID)
			call.End()
			call = l.Begin()
			if i%10 == 0 {
				call.Remove(pool, key.ID)
				call.Create(b.Context(), pool, "")
			} else {
				call.Keep(b.Context(), pool, key.ID)
			}
			call.End()
		}
	}
}
