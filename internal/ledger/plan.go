package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// plan adds up what the calls of one Terraform plan have declared, per pool,
// and decides when to report. It has no lock and no clock and does no I/O, so
// that a test can drive it through a million plans.
type plan struct {
	cap             int
	quiet, takeover time.Duration

	pools    map[byok.Pool]*totals
	poolOf   map[string]*totals // by key ID: where it was read, kept or removed
	listings map[byok.Scope]*listing
	overfull map[*totals]struct{} // over their caps so far, and not reported

	applying   bool
	inFlight   int
	sequential bool      // never were two calls in flight at once
	active     time.Time // when a call last began or ended
	waiter     *waiter   // at most one
}

// totals is what a plan does to one pool.
type totals struct {
	pool     byok.Pool
	listing  *listing // nil before the list
	outcomes map[string]outcome
	created  int                 // new keys, replacements not included
	replaced map[string]struct{} // IDs of the keys that a replacement is planned for
	kept     int                 // keys kept that take up room
	going    int                 // stored keys that are removed or presumed removed
	reported bool

	// Of resources that have keys of this pool: see pool.go.
	declarations   []*declaration
	resources      int  // kept or created keys, and declarations
	singles        bool // some are single keys
	exclusive      bool // one of them has to be alone
	sharedReported bool
}

// outcome is what becomes of one key.
type outcome uint8

const (
	undeclared      outcome = iota
	read                    // refreshed, not planned yet
	readInPool              // the same, as part of a resource that has a whole pool
	presumedRemoved         // refreshed, and not planned when the plan was quiet: tainted
	kept
	removed
)

// listing is the list of one scope.
type listing struct {
	failed     bool
	keys       map[string][]byok.Key // by provider ID
	providerOf map[string]string     // key ID to provider ID
}

// waiter is the call that waits for the rest of the plan.
type waiter struct {
	totals   *totals
	since    time.Time
	released chan struct{} // closed once verdict is final
	verdict  Verdict
}

func newPlan(limit int, quiet, takeover time.Duration) *plan {
	return &plan{
		cap:        limit,
		quiet:      quiet,
		takeover:   takeover,
		pools:      map[byok.Pool]*totals{},
		poolOf:     map[string]*totals{},
		listings:   map[byok.Scope]*listing{},
		overfull:   map[*totals]struct{}{},
		sequential: true,
	}
}

// apply stops counting for good.
func (p *plan) apply() {
	p.applying = true
	if p.waiter != nil {
		p.release(Verdict{})
	}
}

// begin counts a call in.
func (p *plan) begin(now time.Time) {
	p.inFlight++
	p.active = now
	if p.inFlight > 1 {
		p.sequential = false
	}
}

// end counts a call out.
func (p *plan) end(now time.Time) {
	p.inFlight--
	p.active = now
}

func (p *plan) read(pool byok.Pool, keyID string) {
	p.totals(pool).singles = true
	p.setOutcome(p.totals(pool), keyID, read)
}

func (p *plan) keep(now time.Time, pool byok.Pool, keyID string) (Verdict, *waiter) {
	p.totals(pool).singles = true
	p.setOutcome(p.totals(pool), keyID, kept)
	return p.decide(now, pool)
}

func (p *plan) remove(pool byok.Pool, keyID string) {
	p.totals(pool).singles = true
	p.setOutcome(p.totals(pool), keyID, removed)
}

// create adds a key to a pool. The caller lists the scope and then decides.
func (p *plan) create(pool byok.Pool, replacedID string) {
	t := p.totals(pool)
	t.singles = true
	if replacedID == "" {
		t.created++
	} else {
		t.replaced[replacedID] = struct{}{}
		// With -replace, the first of the two calls looks like a keep.
		holder := p.poolOf[replacedID]
		if holder == nil {
			holder = t
		}
		p.setOutcome(holder, replacedID, removed)
	}
	p.check(t)
}

// listDue says whether the list of a scope is needed and missing.
func (p *plan) listDue(scope byok.Scope) bool {
	return !p.applying && p.listings[scope] == nil
}

// addList adds the list of a scope.
func (p *plan) addList(scope byok.Scope, keys []byok.Key, err error) {
	l := &listing{failed: err != nil, keys: map[string][]byok.Key{}, providerOf: map[string]string{}}
	for _, key := range keys {
		l.keys[key.ProviderID] = append(l.keys[key.ProviderID], key)
		l.providerOf[key.ID] = key.ProviderID
	}
	p.listings[scope] = l
	for pool, t := range p.pools {
		if pool.Scope == scope {
			t.listing = l
			t.recount()
			p.check(t)
		}
	}
}

// decide returns the verdict of a call that keeps or creates a key of pool, or
// makes it the one that waits.
func (p *plan) decide(now time.Time, pool byok.Pool) (Verdict, *waiter) {
	if !p.hasOverfull() {
		return Verdict{}, nil
	}
	t := p.totals(pool)
	if w := p.waiter; w != nil {
		if now.Sub(w.since) < p.takeover {
			// Of another pool than the one that is waited for, nothing more
			// needs to be known, and the error belongs where the key is.
			if _, overfull := p.overfull[t]; overfull && w.totals != t && t.certain(p.cap) {
				verdict := p.report(false, t)
				p.releaseIfClear()
				return verdict, nil
			}
			return Verdict{}, nil
		}
		var certain []*totals
		for d := range p.overfull {
			if d.certain(p.cap) {
				certain = append(certain, d)
			}
		}
		p.release(p.report(false, certain...))
		if len(p.overfull) == 0 {
			return Verdict{}, nil
		}
	}
	p.waiter = &waiter{totals: t, since: now, released: make(chan struct{})}
	return Verdict{}, p.waiter
}

// hasOverfull reports whether some pool may end up over its cap.
func (p *plan) hasOverfull() bool { return !p.applying && len(p.overfull) > 0 }

// tick settles every pool if the plan has been quiet for long enough, and
// otherwise says when to look again.
func (p *plan) tick(now time.Time, w *waiter) (next time.Time) {
	if p.waiter != w {
		return now.Add(p.quiet) // released: the channel is closed
	}
	if p.inFlight > 1 { // the one in flight is the waiter
		return now.Add(p.quiet)
	}
	if next := p.active.Add(p.quiet); next.After(now) {
		return next
	}
	var over []*totals
	for t := range p.overfull {
		for id, f := range t.outcomes {
			if f == read || f == readInPool {
				t.set(id, presumedRemoved)
			}
		}
		if t.over(p.cap) {
			over = append(over, t)
		} else {
			delete(p.overfull, t)
		}
	}
	p.release(p.report(true, over...))
	return now.Add(p.quiet)
}

// abandon takes back the waiter whose call was cancelled. The next call that
// decides takes its place.
func (p *plan) abandon(w *waiter) {
	if p.waiter == w {
		p.release(Verdict{})
	}
}

func (p *plan) totals(pool byok.Pool) *totals {
	t := p.pools[pool]
	if t == nil {
		t = &totals{
			pool:     pool,
			listing:  p.listings[pool.Scope],
			outcomes: map[string]outcome{},
			replaced: map[string]struct{}{},
		}
		p.pools[pool] = t
	}
	return t
}

// setOutcome records the outcome of a key. A key that is planned for removal
// stays removed, whatever later calls say. A read adds nothing to a key that is
// already planned.
func (p *plan) setOutcome(t *totals, keyID string, f outcome) {
	p.poolOf[keyID] = t
	if was := t.outcomes[keyID]; was == removed || (f == read || f == readInPool) && was != undeclared {
		return
	}
	t.set(keyID, f)
	p.check(t)
}

// check adds a pool to the overfull ones or takes it out.
func (p *plan) check(t *totals) {
	if !t.reported && t.over(p.cap) {
		p.overfull[t] = struct{}{}
		return
	}
	delete(p.overfull, t)
	p.releaseIfClear()
}

// releaseIfClear ends the wait when no pool is over its cap.
func (p *plan) releaseIfClear() {
	if len(p.overfull) == 0 && p.waiter != nil {
		p.release(Verdict{})
	}
}

// report makes the errors for pools; each pool is reported once.
// Settled figures are those of the whole plan.
func (p *plan) report(settled bool, over ...*totals) Verdict {
	slices.SortFunc(over, func(x, y *totals) int { return x.pool.Compare(y.pool) })
	var verdict Verdict
	for _, t := range over {
		t.reported = true
		delete(p.overfull, t)
		verdict.Over = append(verdict.Over, t.overCap(p.cap, settled, p.sequential))
	}
	return verdict
}

// release ends the wait.
func (p *plan) release(verdict Verdict) {
	w := p.waiter
	p.waiter = nil
	w.verdict = verdict
	close(w.released)
}

// set changes the outcome of a key and the counts with it.
func (t *totals) set(keyID string, f outcome) {
	t.count(keyID, t.outcomes[keyID], -1)
	t.outcomes[keyID] = f
	t.count(keyID, f, +1)
}

func (t *totals) count(keyID string, f outcome, n int) {
	if t.listing != nil && !t.listing.failed {
		if providerID, stored := t.listing.providerOf[keyID]; !stored || providerID != t.pool.ProviderID {
			return
		}
	}
	switch f {
	case kept:
		t.kept += n
	case removed, presumedRemoved:
		t.going += n
	}
}

func (t *totals) recount() {
	t.kept, t.going = 0, 0
	for id, f := range t.outcomes {
		t.count(id, f, +1)
	}
}

// adds is the number of keys that the plan adds to the pool.
func (t *totals) adds() int { return t.created + len(t.replaced) }

// certain says that the keys that the plan keeps and adds are too many, never
// mind what else is stored.
func (t *totals) certain(limit int) bool {
	return t.adds() > 0 && t.kept+t.adds() > limit
}

// over says that the pool is over its cap, as far as is known.
func (t *totals) over(limit int) bool {
	switch {
	case t.listing == nil || t.adds() == 0:
		return false
	case t.listing.failed:
		return t.certain(limit)
	default:
		return t.stored()-t.going+t.adds() > limit
	}
}

func (t *totals) stored() int { return len(t.listing.keys[t.pool.ProviderID]) }

func (t *totals) overCap(limit int, settled, sequential bool) *OverCap {
	o := &OverCap{
		Pool:       t.pool,
		Cap:        limit,
		Stored:     -1,
		Kept:       t.kept,
		Added:      t.adds(),
		Replaced:   len(t.replaced),
		Removed:    t.going,
		Certain:    t.certain(limit),
		Whole:      len(t.declarations) > 0 && !t.singles,
		Settled:    settled,
		Sequential: sequential,
	}
	if t.listing.failed {
		return o
	}
	o.Stored = t.stored()
	if settled {
		for _, key := range t.listing.keys[t.pool.ProviderID] {
			if t.outcomes[key.ID] == undeclared {
				o.Unmanaged = append(o.Unmanaged, key)
			}
		}
		slices.SortFunc(o.Unmanaged, rotationOrder)
	}
	return o
}

// rotationOrder is the order in which a pool serves its keys. WIRE.md
// section 8.
func rotationOrder(x, y byok.Key) int {
	return cmp.Or(cmp.Compare(x.CreatedAt, y.CreatedAt), cmp.Compare(x.ID, y.ID))
}
