package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// book is the arithmetic of a ledger: what has been said about each pool, and
// when it is time for a verdict. It has no lock, no clock and does no I/O, so
// that a test can drive it through a million walks.
type book struct {
	cap           int
	quiet, relief time.Duration

	accounts map[byok.Pool]*account
	homes    map[string]*account // by key ID: where it was read, kept or removed
	listings map[byok.Scope]*listing
	doubtful map[*account]struct{}

	applying   bool
	inFlight   int
	sequential bool      // never were two calls in flight at once
	active     time.Time // when a call last began or ended
	waiter     *waiter   // at most one
}

// account is one pool in the book.
type account struct {
	pool     byok.Pool
	listing  *listing // nil before the list
	fates    map[string]fate
	created  int                 // new keys, replacements not included
	replaced map[string]struct{} // IDs of the keys that a replacement is planned for
	kept     int                 // keys kept that take up room
	going    int                 // stored keys removed, or presumed so
	reported bool
}

// fate is what becomes of one key.
type fate uint8

const (
	unmentioned fate = iota
	read             // refreshed, not planned yet
	presumed         // refreshed, and not planned when the walk was quiet: tainted
	kept
	removed
)

// listing is what a list has told of one scope.
type listing struct {
	failed bool
	keys   map[string][]byok.Key // by provider ID
	homes  map[string]string     // key ID to provider ID
}

// waiter is the call that waits for the walk to go on.
type waiter struct {
	account  *account
	since    time.Time
	released chan struct{} // closed once verdict is final
	verdict  Verdict
}

func newBook(limit int, quiet, relief time.Duration) *book {
	return &book{
		cap:        limit,
		quiet:      quiet,
		relief:     relief,
		accounts:   map[byok.Pool]*account{},
		homes:      map[string]*account{},
		listings:   map[byok.Scope]*listing{},
		doubtful:   map[*account]struct{}{},
		sequential: true,
	}
}

// apply stops the bookkeeping for good.
func (b *book) apply() {
	b.applying = true
	if b.waiter != nil {
		b.release(Verdict{})
	}
}

// begin counts a call in.
func (b *book) begin(now time.Time) {
	b.inFlight++
	b.active = now
	if b.inFlight > 1 {
		b.sequential = false
	}
}

// end counts a call out.
func (b *book) end(now time.Time) {
	b.inFlight--
	b.active = now
}

func (b *book) read(pool byok.Pool, keyID string) {
	b.note(b.account(pool), keyID, read)
}

func (b *book) keep(now time.Time, pool byok.Pool, keyID string) (Verdict, *waiter) {
	b.note(b.account(pool), keyID, kept)
	return b.judge(now, pool)
}

func (b *book) remove(pool byok.Pool, keyID string) {
	b.note(b.account(pool), keyID, removed)
}

// create adds a key to a pool. The caller has the scope listed, then
// judges.
func (b *book) create(pool byok.Pool, replacedID string) {
	a := b.account(pool)
	if replacedID == "" {
		a.created++
	} else {
		a.replaced[replacedID] = struct{}{}
		// With -replace, the first of the two calls looks like a keep.
		home := b.homes[replacedID]
		if home == nil {
			home = a
		}
		b.note(home, replacedID, removed)
	}
	b.weigh(a)
}

// listDue says whether the list of a scope is needed and missing.
func (b *book) listDue(scope byok.Scope) bool {
	return !b.applying && b.listings[scope] == nil
}

// enter takes the list of a scope into the book.
func (b *book) enter(scope byok.Scope, keys []byok.Key, err error) {
	l := &listing{failed: err != nil, keys: map[string][]byok.Key{}, homes: map[string]string{}}
	for _, key := range keys {
		l.keys[key.ProviderID] = append(l.keys[key.ProviderID], key)
		l.homes[key.ID] = key.ProviderID
	}
	b.listings[scope] = l
	for pool, a := range b.accounts {
		if pool.Scope == scope {
			a.listing = l
			a.recount()
			b.weigh(a)
		}
	}
}

// judge gives the verdict of a call that keeps or creates a key of pool, or
// makes it the one that waits.
func (b *book) judge(now time.Time, pool byok.Pool) (Verdict, *waiter) {
	if !b.inDoubt() {
		return Verdict{}, nil
	}
	a := b.account(pool)
	if w := b.waiter; w != nil {
		if now.Sub(w.since) < b.relief {
			// Of another pool than the one that is waited for, nothing more
			// needs to be known, and the error belongs where the key is.
			if _, doubtful := b.doubtful[a]; doubtful && w.account != a && a.certain(b.cap) {
				verdict := b.report(false, a)
				b.calm()
				return verdict, nil
			}
			return Verdict{}, nil
		}
		var certain []*account
		for d := range b.doubtful {
			if d.certain(b.cap) {
				certain = append(certain, d)
			}
		}
		b.release(b.report(false, certain...))
		if len(b.doubtful) == 0 {
			return Verdict{}, nil
		}
	}
	b.waiter = &waiter{account: a, since: now, released: make(chan struct{})}
	return Verdict{}, b.waiter
}

// inDoubt reports whether some pool may end up over its cap.
func (b *book) inDoubt() bool { return !b.applying && len(b.doubtful) > 0 }

// tick settles every pool if the walk has been quiet for long enough, and
// otherwise says when to look again.
func (b *book) tick(now time.Time, w *waiter) (next time.Time) {
	if b.waiter != w {
		return now.Add(b.quiet) // released: the channel is closed
	}
	if b.inFlight > 1 { // the one in flight is the waiter
		return now.Add(b.quiet)
	}
	if next := b.active.Add(b.quiet); next.After(now) {
		return next
	}
	var over []*account
	for a := range b.doubtful {
		for id, f := range a.fates {
			if f == read {
				a.set(id, presumed)
			}
		}
		if a.over(b.cap) {
			over = append(over, a)
		} else {
			delete(b.doubtful, a)
		}
	}
	b.release(b.report(true, over...))
	return now.Add(b.quiet)
}

// abandon takes back the waiter whose call was cancelled. The next call that
// judges takes its place.
func (b *book) abandon(w *waiter) {
	if b.waiter == w {
		b.release(Verdict{})
	}
}

func (b *book) account(pool byok.Pool) *account {
	a := b.accounts[pool]
	if a == nil {
		a = &account{
			pool:     pool,
			listing:  b.listings[pool.Scope],
			fates:    map[string]fate{},
			replaced: map[string]struct{}{},
		}
		b.accounts[pool] = a
	}
	return a
}

// note writes down the fate of a key. Removed is final: whatever else happens
// to a key that goes, it goes. A read says nothing new of a key that is
// already planned.
func (b *book) note(a *account, keyID string, f fate) {
	b.homes[keyID] = a
	if was := a.fates[keyID]; was == removed || f == read && was != unmentioned {
		return
	}
	a.set(keyID, f)
	b.weigh(a)
}

// weigh moves a pool into doubt or out of it.
func (b *book) weigh(a *account) {
	if !a.reported && a.over(b.cap) {
		b.doubtful[a] = struct{}{}
		return
	}
	delete(b.doubtful, a)
	b.calm()
}

// calm lets the waiter go when nothing is in doubt.
func (b *book) calm() {
	if len(b.doubtful) == 0 && b.waiter != nil {
		b.release(Verdict{})
	}
}

// report makes the errors for pools, which are then out of doubt for good.
// Settled figures are those of the whole plan.
func (b *book) report(settled bool, accounts ...*account) Verdict {
	slices.SortFunc(accounts, func(x, y *account) int { return x.pool.Compare(y.pool) })
	var verdict Verdict
	for _, a := range accounts {
		a.reported = true
		delete(b.doubtful, a)
		verdict.Over = append(verdict.Over, a.overCap(b.cap, settled, b.sequential))
	}
	return verdict
}

// release ends the wait.
func (b *book) release(verdict Verdict) {
	w := b.waiter
	b.waiter = nil
	w.verdict = verdict
	close(w.released)
}

// set changes the fate of a key and the counts with it.
func (a *account) set(keyID string, f fate) {
	a.count(keyID, a.fates[keyID], -1)
	a.fates[keyID] = f
	a.count(keyID, f, +1)
}

func (a *account) count(keyID string, f fate, n int) {
	if a.listing != nil && !a.listing.failed {
		if providerID, stored := a.listing.homes[keyID]; !stored || providerID != a.pool.ProviderID {
			return
		}
	}
	switch f {
	case kept:
		a.kept += n
	case removed, presumed:
		a.going += n
	}
}

func (a *account) recount() {
	a.kept, a.going = 0, 0
	for id, f := range a.fates {
		a.count(id, f, +1)
	}
}

// adds is the number of keys that the plan adds to the pool.
func (a *account) adds() int { return a.created + len(a.replaced) }

// certain says that the keys that the plan keeps and adds are too many, never
// mind what else is stored.
func (a *account) certain(limit int) bool {
	return a.adds() > 0 && a.kept+a.adds() > limit
}

// over says that the pool is over its cap, as far as is known.
func (a *account) over(limit int) bool {
	switch {
	case a.listing == nil || a.adds() == 0:
		return false
	case a.listing.failed:
		return a.certain(limit)
	default:
		return a.stored()-a.going+a.adds() > limit
	}
}

func (a *account) stored() int { return len(a.listing.keys[a.pool.ProviderID]) }

func (a *account) overCap(limit int, settled, sequential bool) *OverCap {
	o := &OverCap{
		Pool:       a.pool,
		Cap:        limit,
		Stored:     -1,
		Kept:       a.kept,
		Added:      a.adds(),
		Replaced:   len(a.replaced),
		Removed:    a.going,
		Certain:    a.certain(limit),
		Settled:    settled,
		Sequential: sequential,
	}
	if a.listing.failed {
		return o
	}
	o.Stored = a.stored()
	if settled {
		for _, key := range a.listing.keys[a.pool.ProviderID] {
			if a.fates[key.ID] == unmentioned {
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
