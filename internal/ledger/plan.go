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
	parallelism     int // from so many waiting creates on, a plan warns
	quiet, takeover time.Duration

	pools    map[byok.Pool]*totals
	poolOf   map[string]*totals // by key ID: where it was read, kept or removed
	listings map[byok.Scope]*listing
	overfull map[*totals]struct{} // over their caps so far, and not reported
	reads    map[readKey]struct{}
	claims   map[string]claim // by key ID
	waiting  int              // creates of all pools that wait for removals
	crowded  bool             // the warning about them was returned

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
	movedIn  int                 // of these, the keys that come from another pool
	kept     int                 // keys kept that take up capacity
	going    int                 // stored keys that are removed or presumed removed
	waiting  int                 // its share of the plan's waiting creates
	reported bool

	// Of resources that have keys of this pool: see pool.go.
	declarations   []*declaration
	resources      int  // kept or created keys, and declarations
	singles        bool // some are single keys
	contested      bool // the error about contested keys was returned
	exclusive      bool // one of them has to be alone
	sharedReported bool
}

// readKey is a key that was read, as a resource of its own or as part of one that
// has a whole pool. One that is read as both belongs to two resources: that is no
// sign of another plan.
type readKey struct {
	keyID  string
	inPool bool
}

// claim is what the resources that have a key do with it.
type claim uint8

const (
	keptAlone claim = 1 << iota
	removedAlone
	keptInPool
	removedInPool
)

// isContested reports whether two resources have the key, and not both remove it.
func (c claim) isContested() bool {
	const kept, alone, inPool = keptAlone | keptInPool, keptAlone | removedAlone, keptInPool | removedInPool
	return c&alone != 0 && c&inPool != 0 && c&kept != 0
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

func newPlan(limit, parallelism int, quiet, takeover time.Duration) *plan {
	return &plan{
		cap:         limit,
		parallelism: parallelism,
		quiet:       quiet,
		takeover:    takeover,
		pools:       map[byok.Pool]*totals{},
		poolOf:      map[string]*totals{},
		listings:    map[byok.Scope]*listing{},
		overfull:    map[*totals]struct{}{},
		reads:       map[readKey]struct{}{},
		claims:      map[string]claim{},
		sequential:  true,
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

// read records that a key was read. again is true if it was read before:
// Terraform reads a key once in a plan, so this is another plan.
func (p *plan) read(pool byok.Pool, keyID string) (again bool) {
	if _, again = p.reads[readKey{keyID, false}]; again {
		return true
	}
	p.reads[readKey{keyID, false}] = struct{}{}
	p.totals(pool).singles = true
	p.setOutcome(p.totals(pool), keyID, read)
	return false
}

func (p *plan) keep(now time.Time, pool byok.Pool, keyID string) (Verdict, *waiter) {
	p.totals(pool).singles = true
	p.claims[keyID] |= keptAlone
	p.setOutcome(p.totals(pool), keyID, kept)
	if !p.hasOverfull() {
		return Verdict{}, nil
	}
	return p.decide(now, pool)
}

func (p *plan) remove(pool byok.Pool, keyID string) {
	p.totals(pool).singles = true
	p.claims[keyID] |= removedAlone
	p.setOutcome(p.totals(pool), keyID, removed)
}

// create adds a key to a pool, which can replace another one. The caller lists
// the scope and then decides, unless nothing has been added: the same
// replacement counts once.
func (p *plan) create(pool byok.Pool, replacedID string) (added bool) {
	t := p.totals(pool)
	t.singles = true
	defer p.check(t)
	if replacedID == "" {
		t.created++
		return true
	}
	if _, twice := t.replaced[replacedID]; twice {
		return false
	}
	t.replaced[replacedID] = struct{}{}
	// With -replace, the first of the two calls looks like a keep.
	from := p.poolOf[replacedID]
	if from == nil {
		from = t
	}
	if from != t {
		t.movedIn++
	}
	p.setOutcome(from, replacedID, removed)
	return true
}

// listDue says whether the list of a scope is needed and missing.
func (p *plan) listDue(scope byok.Scope) bool {
	_, listed := p.listings[scope]
	return !p.applying && !listed
}

// addList adds the list of a scope; nil, where it failed, leaves the pools of
// the scope unchecked.
func (p *plan) addList(scope byok.Scope, keys []byok.Key, failed bool) {
	if failed {
		p.listings[scope] = nil
		return
	}
	l := &listing{keys: map[string][]byok.Key{}, providerOf: map[string]string{}}
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
	if !p.hasOverfull() && !p.isCrowded() {
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
		if !p.hasOverfull() && !p.isCrowded() {
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
		return now.Add(p.quietTime())
	}
	if next := p.active.Add(p.quietTime()); next.After(now) {
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
	verdict := p.report(true, over...)
	if p.isCrowded() {
		p.crowded = true
		verdict.Crowded = &Crowded{Creates: p.waiting}
	}
	p.release(verdict)
	return now.Add(p.quiet)
}

// quietTime is how long no call may have begun or ended before the plan counts
// as complete. A resource that has a whole pool removes its keys in one call, so
// that fewer calls are missing than where each key is a resource.
func (p *plan) quietTime() time.Duration {
	for t := range p.overfull {
		if t.singles {
			return p.quiet
		}
	}
	if p.isCrowded() {
		return p.quiet
	}
	return p.quiet / 12
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
	p.countWaiting(t)
	if !t.reported && t.over(p.cap) {
		p.overfull[t] = struct{}{}
		return
	}
	delete(p.overfull, t)
	p.releaseIfClear()
}

// releaseIfClear ends the wait when there is nothing to report any more.
func (p *plan) releaseIfClear() {
	if p.waiter != nil && len(p.overfull) == 0 && !p.isCrowded() {
		p.release(Verdict{})
	}
}

// isCrowded reports whether there are enough waiting creates for the warning,
// which is returned once.
func (p *plan) isCrowded() bool {
	return !p.applying && !p.crowded && p.waiting >= p.parallelism
}

// countWaiting updates the number of waiting creates. Pools over their caps do
// not count: their plan fails.
func (p *plan) countWaiting(t *totals) {
	p.waiting -= t.waiting
	t.waiting = 0
	if !t.reported {
		t.waiting = t.waitingCreates(p.cap)
	}
	p.waiting += t.waiting
}

// report makes the errors for pools; each pool is reported once.
// Settled figures are those of the whole plan.
func (p *plan) report(settled bool, over ...*totals) Verdict {
	slices.SortFunc(over, func(x, y *totals) int { return x.pool.Compare(y.pool) })
	var verdict Verdict
	for _, t := range over {
		t.reported = true
		delete(p.overfull, t)
		p.countWaiting(t)
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
	if t.listing != nil {
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
	return t.listing != nil && t.adds() > 0 && t.stored()-t.going+t.adds() > limit
}

// waitingCreates is the number of creates that find no free capacity before a
// removal. A key that replaces one of the same pool is not among them: Terraform
// deletes that one first.
func (t *totals) waitingCreates(limit int) int {
	if t.listing == nil {
		return 0
	}
	// A resource that has a whole pool removes and adds by itself.
	created := t.created
	for _, d := range t.declarations {
		created -= d.change.Added
	}
	return max(0, created+t.movedIn-max(0, limit-t.stored()))
}

func (t *totals) stored() int { return len(t.listing.keys[t.pool.ProviderID]) }

func (t *totals) overCap(limit int, settled, sequential bool) *OverCap {
	// Resources that have whole pools declare all of their removals at once.
	whole := !t.singles
	o := &OverCap{
		Pool:       t.pool,
		Cap:        limit,
		Stored:     t.stored(),
		Kept:       t.kept,
		Added:      t.adds(),
		Replaced:   len(t.replaced),
		Removed:    t.going,
		Certain:    t.certain(limit),
		Whole:      whole,
		Exclusive:  t.exclusive,
		Settled:    settled,
		Sequential: sequential && !whole,
	}
	if settled {
		o.Unmanaged = t.unmanaged()
	}
	return o
}

// unmanaged returns the stored keys that no call has declared, in rotation
// order.
func (t *totals) unmanaged() (keys []byok.Key) {
	for _, key := range t.listing.keys[t.pool.ProviderID] {
		if t.outcomes[key.ID] == undeclared {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, rotationOrder)
	return keys
}

// rotationOrder is the order in which a pool serves its keys. WIRE.md
// section 8.
func rotationOrder(x, y byok.Key) int {
	return cmp.Or(cmp.Compare(x.CreatedAt, y.CreatedAt), cmp.Compare(x.ID, y.ID))
}
