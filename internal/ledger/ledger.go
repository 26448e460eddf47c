// Package ledger tells, while Terraform plans, whether a pool would end up
// with more keys than its cap.
//
// Terraform plans one key at a time, several at once, in no particular order,
// and never says how many there are. The provider's Configure therefore builds
// one Ledger for each walk, and every call of the walk tells it what becomes of
// one key: read, kept, removed, or created. The ledger adds, per pool,
//
//	stored - removed + created
//
// where stored comes from one list per workspace, fetched at the first create.
// A sum over the cap is not yet an error: a stored key that nobody has
// mentioned may be one that Terraform does not manage, or one whose removal is
// planned a moment later. So one create waits (never more than one: the walk
// must go on) until the sum comes down to the cap, or until no other call is in
// flight and none has begun or ended for a quiet time. Keys still not mentioned
// then count as staying, and keys that were read but not planned as going,
// which is what a tainted key looks like. What is over by then is an error: one
// per pool, with the figures of the whole plan.
//
// A pool is over only if the plan creates a key in it: a pool that is too full
// already, and left as it is, is nobody's error.
//
// # What cannot be decided
//
// Never reported, although the apply fails: create_before_destroy without room
// for the old and the new key (nothing in a plan call shows it),
// removed { destroy = false } where Terraform refreshes the key first (it then
// looks like a tainted key; Terraform 1.11.4 does not), two aliases of the
// provider that fill one pool together (each has its own ledger), and what
// others add after the list. Every other pool that ends up over its cap is
// reported, in every order and at every parallelism.
//
// Reported, although the apply would succeed: a pool with a key that goes and
// is not known to go after a whole quiet time of silence. That takes
// -parallelism=1 (the call that waits holds up the rest of the walk), a removal
// that depends on the call that waits, a removal that waits longer than the
// quiet time for something that is not ours, or a tainted key with
// -refresh=false. The apply walk is told by a hint. Where there is none, as in
// OpenTofu, it is taken for a plan until the first key is created, updated or
// deleted, and a delete that comes late can be missed in the same ways.
//
// # What lives where
//
// This file is what the provider calls: locks, timers, the list. book.go is the
// arithmetic, without any of these. report.go is the text that the user reads.
// The package knows nothing of Terraform's types and of HTTP.
package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

const (
	// DefaultQuiet was measured: with 250 ms and with 1 s, a slow dependency
	// in front of a removal raised false alarms, with 3 s it did not.
	DefaultQuiet = 3 * time.Second
	// DefaultTakeover bounds how long a walk that is busy elsewhere holds up
	// one create and all that depends on it.
	DefaultTakeover = 30 * time.Second
)

// ListFunc returns every key stored in a scope. The ledger calls it at
// most once per scope and only when a key is to be created there.
type ListFunc func(ctx context.Context, scope byok.Scope) ([]byok.Key, error)

// Config is what a ledger needs. List is required.
type Config struct {
	List ListFunc
	// Cap is the largest pool. 0 means byok.Cap.
	Cap int
	// Quiet is how long the walk must have been silent before keys that no
	// call has mentioned count as staying. 0 means DefaultQuiet.
	Quiet time.Duration
	// Takeover is how long one call waits before the next Keep or Create that
	// arrives takes its place. 0 means DefaultTakeover.
	Takeover time.Duration
}

// Ledger is what one Terraform walk is about to do to each pool. The nil
// Ledger checks nothing and costs nothing (cap_check = "off"). All methods are
// safe for concurrent use.
type Ledger struct {
	listScope ListFunc

	mu        sync.Mutex
	plan      *plan
	listLocks map[byok.Scope]chan struct{} // whose lock it is to list
}

// New returns the empty ledger of one walk: call it in Configure, and hang the
// ledger on the object that Configure builds.
func New(cfg Config) *Ledger {
	if cfg.Cap == 0 {
		cfg.Cap = byok.Cap
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = DefaultQuiet
	}
	if cfg.Takeover == 0 {
		cfg.Takeover = DefaultTakeover
	}
	return &Ledger{
		listScope: cfg.List,
		plan:      newPlan(cfg.Cap, cfg.Quiet, cfg.Takeover),
		listLocks: map[byok.Scope]chan struct{}{},
	}
}

// Applying tells the ledger that this is the apply walk, in which the API
// alone decides: every verdict is empty from now on, nothing is listed, and a
// call that waits returns at once. Call it when the hint says so (Terraform's
// DeferralAllowed, in Configure or ModifyPlan) and first thing in every
// Create, Update and Delete of a resource, for OpenTofu gives no hint.
func (l *Ledger) Applying() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan.apply()
}

// Begin notes that a call from Terraform has arrived. Begin every Read,
// ModifyPlan and ImportState of a resource and every Read of a data source
// with
//
//	call := ledger.Begin()
//	defer call.End()
//
// for the ledger takes a verdict on keys that it has not heard of only when
// nothing is in flight.
func (l *Ledger) Begin() *Call {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan.begin(time.Now())
	return &Call{ledger: l}
}

// Call is one call from Terraform that is in flight. The nil Call is that of
// the nil Ledger.
type Call struct {
	ledger *Ledger
	end    sync.Once
}

// Read: Terraform refreshes this key, and it exists. Call it from Read once
// the key was found.
func (c *Call) Read(pool byok.Pool, keyID string) {
	if c == nil {
		return
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	c.ledger.plan.read(pool, keyID)
}

// Keep: the plan keeps this key (prior state, no replace pending), changed or
// not. Almost always it returns an empty verdict at once. It waits and reports
// as Create does in the place of a create that was cancelled or relieved, for
// a key that had been taken for tainted, and where the list failed.
//
// A kept key that is not stored (deleted elsewhere, and -refresh=false) takes
// up no room, unless the list failed and nobody knows.
func (c *Call) Keep(ctx context.Context, pool byok.Pool, keyID string) Verdict {
	if c == nil {
		return Verdict{}
	}
	l := c.ledger
	l.mu.Lock()
	verdict, waiter := l.plan.keep(time.Now(), pool, keyID)
	shared := l.plan.shareKey(pool)
	l.mu.Unlock()
	verdict = l.await(ctx, verdict, waiter)
	verdict.Shared = shared
	return verdict
}

// KeepUnchanged is Keep as long as no pool is in doubt: it never waits and has
// nothing to report. Otherwise it returns false, and the key has still to be
// kept.
func (c *Call) KeepUnchanged(pool byok.Pool, keyID string) bool {
	if c == nil {
		return true
	}
	l := c.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plan.hasOverfull() || l.plan.totals(pool).exclusive {
		return false
	}
	l.plan.shareKey(pool)
	_, waiter := l.plan.keep(time.Now(), pool, keyID)
	if waiter != nil { // this very key raises a doubt
		l.plan.abandon(waiter)
	}
	return waiter == nil
}

// Remove: the plan removes this key from this pool (plan null, or prior state
// with a replace pending, then with the pool of the prior state). It is final:
// a later Keep of the same key changes nothing.
func (c *Call) Remove(pool byok.Pool, keyID string) {
	if c == nil {
		return
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	c.ledger.plan.remove(pool, keyID)
}

// Create: the plan adds a key to this pool (prior state null). replacedID is
// the key ID that the private state names when this is the second call of a
// replace, otherwise "": that key goes, from whichever pool it was in. The
// same replacedID counts once, however often it is planned.
//
// It lists the workspace if no create has done so before. It can wait, as long
// as ctx allows, when the pool is over its cap so far; at most one call of a
// ledger waits. A pool that is not known at plan has no place here.
func (c *Call) Create(ctx context.Context, pool byok.Pool, replacedID string) Verdict {
	if c == nil {
		return Verdict{}
	}
	l := c.ledger
	l.mu.Lock()
	l.plan.create(pool, replacedID)
	shared := l.plan.shareKey(pool)
	l.mu.Unlock()

	unchecked := l.list(ctx, pool.Scope)

	l.mu.Lock()
	verdict, waiter := l.plan.decide(time.Now(), pool)
	l.mu.Unlock()
	verdict = l.await(ctx, verdict, waiter)
	verdict.Unchecked, verdict.Shared = unchecked, shared
	return verdict
}

// End notes that the call returns. Further Ends do nothing.
func (c *Call) End() {
	if c == nil {
		return
	}
	c.end.Do(func() {
		c.ledger.mu.Lock()
		defer c.ledger.mu.Unlock()
		c.ledger.plan.end(time.Now())
	})
}

// Verdict is what a call has to report. The zero Verdict reports nothing.
type Verdict struct {
	// Over holds the pools found to be over their cap, each reported once per
	// ledger however many keys overflow it. A call can report pools other
	// than its own, on behalf of calls that have already returned.
	Over []*OverCap
	// Unchecked is set when the pools of a workspace cannot be checked
	// because its list failed: a warning, once per workspace.
	Unchecked *Unchecked
	// Shared is set when the call's pool belongs to an exclusive resource and
	// to another one: an error, once per pool.
	Shared *Shared
}

// list enters the keys of a workspace in the book, once. The caller that finds
// the list failing gets it to report. A list that was cancelled with its
// caller is left to the next caller.
func (l *Ledger) list(ctx context.Context, scope byok.Scope) *Unchecked {
	l.mu.Lock()
	lock := l.listLocks[scope]
	if lock == nil {
		lock = make(chan struct{}, 1)
		l.listLocks[scope] = lock
	}
	l.mu.Unlock()

	select {
	case lock <- struct{}{}:
		defer func() { <-lock }()
	case <-ctx.Done():
		return nil
	}

	l.mu.Lock()
	due := l.plan.listDue(scope)
	l.mu.Unlock()
	if !due {
		return nil
	}
	keys, err := l.listScope(ctx, scope)
	if err != nil && ctx.Err() != nil {
		return nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan.addList(scope, keys, err)
	if err != nil && !l.plan.applying {
		return &Unchecked{Scope: scope, Err: err}
	}
	return nil
}

// await returns the verdict of a call, at once unless it is the one that
// waits.
func (l *Ledger) await(ctx context.Context, verdict Verdict, w *waiter) Verdict {
	if w == nil {
		return verdict
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.released:
			return w.verdict
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.plan.abandon(w)
			return w.verdict
		case <-timer.C:
			l.mu.Lock()
			now := time.Now()
			next := l.plan.tick(now, w)
			l.mu.Unlock()
			timer.Reset(next.Sub(now))
		}
	}
}
