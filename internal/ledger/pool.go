package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// A resource that has a whole pool declares it in one call. What the plan does
// to the pool is then mostly known at once. A call waits, before it reports,
// where single keys of the same pool are resources, too; and for a short time
// where the pool has keys that no call has declared so far: those of another
// resource, which the plan may be about to remove, or of nobody.

// PoolChange is what a plan does with the keys of one resource in one pool.
type PoolChange struct {
	Kept, Removed []string // key IDs
	Added         int
	// Exclusive says that no other resource may have keys of the pool.
	Exclusive bool
	// Replaces is set in the second call of a replace, and Replaced then holds
	// the IDs of the keys that go, from whichever pool they were in.
	Replaces bool
	Replaced []string
}

// has reports whether the resource has one of the keys, or none of all.
func (c PoolChange) has(keyIDs []string) bool {
	ids := slices.Concat(c.Kept, c.Removed)
	return len(keyIDs) == 0 && len(ids) == 0 ||
		slices.ContainsFunc(keyIDs, func(id string) bool { return slices.Contains(ids, id) })
}

// declaration is a PoolChange in the totals.
type declaration struct {
	totals *totals
	change PoolChange
}

// ReadPool declares that Terraform refreshes a resource that has these keys of
// the pool, and that they exist. The second read of a key begins a new plan.
func (c *Call) ReadPool(pool byok.Pool, keyIDs []string) {
	if c == nil {
		return
	}
	l := c.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range keyIDs {
		if _, again := c.plan.reads[readKey{id, true}]; again {
			c.restart()
			break
		}
	}
	for _, id := range keyIDs {
		c.plan.reads[readKey{id, true}] = struct{}{}
		c.plan.setOutcome(c.plan.totals(pool), id, readInPool)
	}
}

// RemovePool declares that the plan removes a resource that has these keys of
// the pool.
func (c *Call) RemovePool(pool byok.Pool, keyIDs []string) {
	if c == nil {
		return
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	for _, id := range keyIDs {
		c.plan.claims[id] |= removedInPool
		c.plan.setOutcome(c.plan.totals(pool), id, removed)
	}
}

// Pool declares that the plan creates, keeps or changes a resource that has keys
// of the pool. It lists the scope when keys are added. It returns at once,
// except where other resources can still change the verdict: then it waits and
// reports as Create does.
func (c *Call) Pool(ctx context.Context, pool byok.Pool, change PoolChange) Verdict {
	if c == nil {
		return Verdict{}
	}
	c.ledger.mu.Lock()
	shared := c.plan.declare(pool, change)
	c.ledger.mu.Unlock()

	var failed *ListFailed
	if change.Added > 0 {
		failed = c.list(ctx, pool.Scope)
	}

	c.ledger.mu.Lock()
	verdict, waiter := c.plan.decidePool(time.Now(), pool)
	c.ledger.mu.Unlock()
	verdict = c.await(ctx, verdict, waiter)
	verdict.ListFailed, verdict.Shared = failed, shared
	return verdict
}

// KeepPoolUnchanged is Pool for a resource that does not change, as long as
// there is nothing to report. Otherwise it returns false, and the caller has to
// call Pool.
func (c *Call) KeepPoolUnchanged(pool byok.Pool, keyIDs []string, exclusive bool) bool {
	if c == nil {
		return true
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	if t := c.plan.totals(pool); c.plan.hasOverfull() || t.exclusive || exclusive && t.resources > 0 ||
		c.plan.contested(pool, keyIDs, keptInPool) != nil {
		return false
	}
	c.plan.declare(pool, PoolChange{Kept: keyIDs, Exclusive: exclusive})
	return !c.plan.hasOverfull()
}

// Declared reports whether a resource of the plan is known to have the key.
func (c *Call) Declared(pool byok.Pool, keyID string) bool {
	if c == nil {
		return false
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	return c.plan.totals(pool).outcomes[keyID] != undeclared
}

// Empties reports whether the plan, as far as it is known, removes all of these
// keys, which are those of a pool, and adds none.
func (c *Call) Empties(pool byok.Pool, stored []string) bool {
	if c == nil {
		return false
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	t := c.plan.totals(pool)
	return !c.plan.applying && len(stored) > 0 && t.adds() == 0 &&
		!slices.ContainsFunc(stored, func(id string) bool { return t.outcomes[id] != removed })
}

// declare enters a change.
func (p *plan) declare(pool byok.Pool, change PoolChange) *Shared {
	if p.applying {
		return nil
	}
	t := p.totals(pool)
	if change.Replaces {
		// With -replace, the first of the two calls looks like an update.
		p.withdraw(change.Replaced)
	}
	shared := p.share(t, change.Exclusive)
	t.declarations = append(t.declarations, &declaration{totals: t, change: change})
	for _, id := range change.Kept {
		p.claims[id] |= keptInPool
		p.setOutcome(t, id, kept)
	}
	for _, id := range change.Removed {
		p.claims[id] |= removedInPool
		p.setOutcome(t, id, removed)
	}
	for _, id := range change.Replaced {
		p.claims[id] |= removedInPool
		holder := p.poolOf[id]
		if holder == nil {
			holder = t
		}
		p.setOutcome(holder, id, removed)
	}
	if change.Added > 0 {
		// Terraform plans a resource right after its refresh. Keys that a
		// pool had and that no plan has declared by now are those of a
		// tainted pool: this one.
		for id, f := range t.outcomes {
			if f == readInPool {
				t.set(id, presumedRemoved)
			}
		}
	}
	t.created += change.Added
	p.check(t)
	return shared
}

// withdraw takes back the first declaration of a resource that is replaced. A
// resource without any keys is known by having none.
func (p *plan) withdraw(keyIDs []string) {
	for _, t := range p.pools {
		for i, d := range t.declarations {
			if d.change.Replaces || !d.change.has(keyIDs) {
				continue
			}
			t.declarations = slices.Delete(t.declarations, i, i+1)
			t.created -= d.change.Added
			t.resources--
			if d.change.Exclusive {
				t.exclusive = slices.ContainsFunc(t.declarations, func(d *declaration) bool { return d.change.Exclusive })
			}
			for _, id := range slices.Concat(d.change.Kept, d.change.Removed) {
				p.claims[id] &^= keptInPool | removedInPool
				t.set(id, undeclared)
			}
			p.check(t)
			return
		}
	}
}

// share counts a resource of a pool and returns the error of one that has to
// be alone and is not.
func (p *plan) share(t *totals, exclusive bool) (shared *Shared) {
	if (exclusive && t.resources > 0 || t.exclusive) && !t.sharedReported {
		t.sharedReported = true
		shared = &Shared{Pool: t.pool}
	}
	t.resources++
	t.exclusive = t.exclusive || exclusive
	return shared
}

// shareKey is share for a key that is a resource of its own.
func (p *plan) shareKey(pool byok.Pool) *Shared {
	if p.applying {
		return nil
	}
	return p.share(p.totals(pool), false)
}

// Contested returns the error of a resource that has declared these keys of a pool,
// where a resource of the other kind has one of them, too, and they do not both
// remove it. It is returned once per pool, by the later of the two.
func (c *Call) Contested(pool byok.Pool, keyIDs ...string) *Contested {
	if c == nil {
		return nil
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	contested := c.plan.contested(pool, keyIDs, 0)
	if contested != nil {
		c.plan.totals(pool).contested = true
	}
	return contested
}

// contested returns the error about those of the keys that are contested, with what
// a call is about to do with them.
func (p *plan) contested(pool byok.Pool, keyIDs []string, with claim) *Contested {
	if t := p.totals(pool); p.applying || t.contested || t.sharedReported {
		return nil
	}
	found := slices.DeleteFunc(slices.Clone(keyIDs), func(id string) bool { return !(p.claims[id] | with).isContested() })
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return &Contested{Pool: pool, KeyIDs: found}
}

// Contested says that a single key and a resource that has a whole pool are one
// stored key. The plan of one would change or remove that of the other.
type Contested struct {
	Pool   byok.Pool
	KeyIDs []string
}

// Summary is the one-line title of the error.
func (c *Contested) Summary() string {
	return fmt.Sprintf("Pool %q has keys that two resources manage", clean(c.Pool.ProviderID))
}

// Detail is the body of the error.
func (c *Contested) Detail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "A byok_key and a byok_pool manage the same keys of provider ID %q in %s %q. An apply would change or delete keys that the other resource still manages:\n\n",
		clean(c.Pool.ProviderID), c.Pool.Scope.Kind, clean(c.Pool.Scope.ID))
	for _, id := range c.KeyIDs {
		fmt.Fprintf(&b, "  %s\n", clean(id))
	}
	b.WriteString("\nLet one resource manage each key. To take keys out of the other resource without deleting them, replace it in the configuration with a removed block that has destroy = false.")
	return b.String()
}

// decidePool returns the verdict of a call that declares a pool. Only other
// resources with keys of the pool can still change it.
func (p *plan) decidePool(now time.Time, pool byok.Pool) (Verdict, *waiter) {
	t := p.totals(pool)
	_, overfull := p.overfull[t]
	switch {
	case p.applying || !overfull:
		return Verdict{}, nil
	case t.certain(p.cap), !t.singles && len(t.unmanaged()) == 0:
		verdict := p.report(!t.singles, t)
		p.releaseIfClear()
		return verdict, nil
	}
	return p.decide(now, pool)
}

// Shared says that an exclusive pool and another resource of the same plan have
// keys in one pool.
type Shared struct{ Pool byok.Pool }

// Summary is the one-line title of the error.
func (s *Shared) Summary() string {
	return fmt.Sprintf("Exclusive pool %q has keys in another resource", clean(s.Pool.ProviderID))
}

// Detail is the body of the error.
func (s *Shared) Detail() string {
	return fmt.Sprintf("A byok_pool with exclusive = true owns every key of provider ID %q in %s %q, but another resource of this configuration has keys there, too: "+
		"this pool would remove the keys of the other resource.\n\nMove the keys of the other resource into the pool, or set exclusive = false.",
		clean(s.Pool.ProviderID), s.Pool.Scope.Kind, clean(s.Pool.Scope.ID))
}
