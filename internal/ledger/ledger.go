// Package ledger checks during a Terraform plan whether a pool would end up
// with more keys than its cap.
//
// Terraform plans one key at a time, several at once, in no particular order.
// Each call declares what happens to one key: read, kept, removed, replaced or
// created. Per pool, the ledger adds up
//
//	stored - removed + created
//
// with the stored keys from one list per scope, fetched at its first create.
//
// While a sum is over the cap, one create waits, because a removal may be
// planned a moment later; all other calls return at once. It stops waiting when
// no sum is over its cap, or when no other call is in flight and none has begun
// or ended for a quiet time. Stored keys that no call has declared then count as
// unmanaged, keys that were read but not planned as removed (tainted keys look
// like that), and every pool over its cap is an error. A pool without a create
// is never an error.
//
// ARCHITECTURE.md lists what a plan cannot decide.
package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

const (
	// DefaultQuiet was measured: with 250 ms and with 1 s, a slow dependency
	// in front of a removal caused false errors, with 3 s it did not.
	DefaultQuiet = 3 * time.Second
	// DefaultTakeover limits how long one create is held up while Terraform is
	// busy with other resources.
	DefaultTakeover = 30 * time.Second
	// DefaultParallelism is Terraform's default of -parallelism.
	DefaultParallelism = 10
)

// ListFunc returns every key stored in a scope. The ledger calls it at most
// once per scope and plan, and only when a key is to be created there.
type ListFunc func(ctx context.Context, scope byok.Scope) ([]byok.Key, error)

// Config is what a ledger needs. List is required; 0 means the default.
type Config struct {
	List ListFunc
	// Cap is the largest pool. Default: byok.Cap.
	Cap int
	// Quiet is how long no call may have begun or ended before undeclared keys
	// count as unmanaged. Default: DefaultQuiet.
	Quiet time.Duration
	// Takeover is how long one call waits before the next Keep, Replace or
	// Create takes its place. Default: DefaultTakeover.
	Takeover time.Duration
}

// Ledger adds up what one Terraform plan does to each pool. The nil Ledger
// checks nothing (cap_check = "off"). All methods are safe for concurrent use.
type Ledger struct {
	cfg Config

	mu        sync.Mutex
	plan      *plan
	listLocks map[byok.Scope]chan struct{} // held during a list
}

// New returns a ledger with an empty plan.
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
	l := &Ledger{cfg: cfg, listLocks: map[byok.Scope]chan struct{}{}}
	l.plan = l.newPlan()
	return l
}

func (l *Ledger) newPlan() *plan {
	return newPlan(l.cfg.Cap, DefaultParallelism, l.cfg.Quiet, l.cfg.Takeover)
}

// Apply tells the ledger that Terraform applies: the API decides, so nothing is
// listed or reported, and a call that waits returns at once.
func (l *Ledger) Apply() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan.apply()
}

// Restart begins an empty plan, for a provider that Terraform configures once
// for several operations. Calls in flight end in the plan in which they began.
func (l *Ledger) Restart() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restart()
}

func (l *Ledger) restart() {
	l.plan.apply() // no call waits in it any more
	l.plan = l.newPlan()
}

// Begin notes that a call from Terraform has arrived. Begin every Read,
// ModifyPlan and ImportState of a resource and every Read of a data source
// with
//
//	call := ledger.Begin()
//	defer call.End()
//
// because a pool is settled only when no call is in flight.
func (l *Ledger) Begin() *Call {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan.begin(time.Now())
	return &Call{ledger: l, plan: l.plan}
}

// Call is one call from Terraform that is in flight. The nil Call is that of
// the nil Ledger.
type Call struct {
	ledger *Ledger
	plan   *plan
	end    sync.Once
}

// Read declares that Terraform refreshes this key, and that it exists. The
// second Read of a key begins a new plan; a ReadPool with it does not.
func (c *Call) Read(pool byok.Pool, keyID string) {
	if c == nil {
		return
	}
	l := c.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.plan.read(pool, keyID) {
		return
	}
	c.restart()
	c.plan.read(pool, keyID)
}

// restart moves the call into a new plan.
func (c *Call) restart() {
	now := time.Now()
	if c.plan == c.ledger.plan {
		c.ledger.restart()
	}
	c.plan.end(now)
	c.plan = c.ledger.plan
	c.plan.begin(now)
}

// Keep declares that the plan keeps this key, changed or not. It rarely waits
// or reports: only in the place of a create that was cancelled or has waited
// too long, and for a key that had been presumed removed.
//
// A kept key that is not stored (deleted elsewhere, and -refresh=false) does
// not count.
func (c *Call) Keep(ctx context.Context, pool byok.Pool, keyID string) Verdict {
	if c == nil {
		return Verdict{}
	}
	c.ledger.mu.Lock()
	verdict, waiter := c.plan.keep(time.Now(), pool, keyID)
	shared := c.plan.shareKey(pool)
	c.ledger.mu.Unlock()
	verdict = c.await(ctx, verdict, waiter)
	verdict.Shared = shared
	return verdict
}

// KeepUnchanged is Keep if no pool is over its cap: it never waits and has
// nothing to report. Otherwise it returns false, and the caller has to call
// Keep.
func (c *Call) KeepUnchanged(pool byok.Pool, keyID string) bool {
	if c == nil {
		return true
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	if c.plan.hasOverfull() || c.plan.totals(pool).exclusive || c.plan.contested(pool, []string{keyID}, keptAlone) != nil {
		return false
	}
	c.plan.shareKey(pool)
	_, waiter := c.plan.keep(time.Now(), pool, keyID)
	if waiter != nil { // over its cap with this key
		c.plan.abandon(waiter)
	}
	return waiter == nil
}

// Remove declares that the plan removes this key from this pool. A later Keep
// of the same key changes nothing.
func (c *Call) Remove(pool byok.Pool, keyID string) {
	if c == nil {
		return
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	c.plan.remove(pool, keyID)
}

// Replace declares that the plan removes a key from one pool and adds its
// replacement to another one, or to the same. Call it in the first of the two
// planning calls of a replace: Terraform drops warnings of the second. Where
// the new pool is not known, call Remove.
//
// It lists and waits as Create does.
func (c *Call) Replace(ctx context.Context, from byok.Pool, keyID string, to byok.Pool) Verdict {
	if c == nil {
		return Verdict{}
	}
	c.Remove(from, keyID)
	return c.create(ctx, to, keyID, true)
}

// Create declares that the plan adds a key to this pool. In the second planning
// call of a replace, replacedID is the ID of the key that is replaced, otherwise
// "". The same replacedID counts once.
//
// It lists the scope if no create has done so before. It can wait, as long as
// ctx allows, while a pool is over its cap; at most one call waits. Where the
// pool is not known, do not call it.
func (c *Call) Create(ctx context.Context, pool byok.Pool, replacedID string) Verdict {
	if c == nil {
		return Verdict{}
	}
	return c.create(ctx, pool, replacedID, replacedID == "")
}

// create adds a key. A call that takes over waits, and reports, in place of one
// that waits already. One whose warnings Terraform drops must not.
func (c *Call) create(ctx context.Context, pool byok.Pool, replacedID string, takesOver bool) Verdict {
	c.ledger.mu.Lock()
	added := c.plan.create(pool, replacedID)
	var shared *Shared
	if added {
		shared = c.plan.shareKey(pool)
	}
	c.ledger.mu.Unlock()
	if !added {
		return Verdict{}
	}

	failed := c.list(ctx, pool.Scope)

	c.ledger.mu.Lock()
	var verdict Verdict
	var waiter *waiter
	if takesOver || c.plan.waiter == nil {
		verdict, waiter = c.plan.decide(time.Now(), pool)
	}
	c.ledger.mu.Unlock()
	verdict = c.await(ctx, verdict, waiter)
	verdict.ListFailed, verdict.Shared = failed, shared
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
		c.plan.end(time.Now())
	})
}

// Verdict is what a call has to report. The zero Verdict reports nothing.
type Verdict struct {
	// Over holds the pools over their caps, each reported once per plan. A
	// call can report other pools than its own, on behalf of calls that have
	// returned.
	Over []*OverCap
	// Crowded is set once per plan, if many creates wait for removals.
	Crowded *Crowded
	// ListFailed is set once per scope, if its keys could not be listed. Its
	// pools are not checked.
	ListFailed *ListFailed
	// Shared is set when the call's pool belongs to an exclusive resource and
	// to another one: an error, once per pool.
	Shared *Shared
}

// ListFailed is a scope whose keys could not be listed.
type ListFailed struct {
	Scope byok.Scope
	Err   error
}

// list lists a scope once. The caller whose list fails gets the failure to
// report. A list that was cancelled with its caller is left to the next one.
func (c *Call) list(ctx context.Context, scope byok.Scope) *ListFailed {
	l := c.ledger
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
	due := c.plan.listDue(scope)
	l.mu.Unlock()
	if !due {
		return nil
	}
	keys, err := l.cfg.List(ctx, scope)
	if err != nil && ctx.Err() != nil {
		return nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	c.plan.addList(scope, keys, err != nil)
	if err != nil && !c.plan.applying {
		return &ListFailed{Scope: scope, Err: err}
	}
	return nil
}

// await returns the verdict of a call, at once unless it is the one that
// waits.
func (c *Call) await(ctx context.Context, verdict Verdict, w *waiter) Verdict {
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
			c.ledger.mu.Lock()
			defer c.ledger.mu.Unlock()
			c.plan.abandon(w)
			return w.verdict
		case <-timer.C:
			c.ledger.mu.Lock()
			now := time.Now()
			next := c.plan.tick(now, w)
			c.ledger.mu.Unlock()
			timer.Reset(next.Sub(now))
		}
	}
}
