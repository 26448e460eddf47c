// Package ledger tells, while Terraform plans, whether a pool would end up
// with more keys than its cap.
package ledger

import (
	"context"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Pool names the keys of one provider ID in one workspace.
type Pool struct {
	WorkspaceID string
	ProviderID  string
}

// String returns WORKSPACE_ID/PROVIDER_ID.
func (p Pool) String() string { return p.WorkspaceID + "/" + p.ProviderID }

// ListFunc returns every key stored in a workspace. The ledger calls it at
// most once per workspace and only when a key is to be created there.
type ListFunc func(ctx context.Context, workspaceID string) ([]byok.Key, error)

// Config is what a ledger needs. List is required.
type Config struct {
	List ListFunc
	// Cap is the largest pool. 0 means byok.Cap.
	Cap int
	// Quiet is how long the walk must have been silent before keys that no
	// call has mentioned count as staying. 0 means 3 s.
	Quiet time.Duration
	// Relief is how long one call waits before the next one that arrives
	// takes its place. 0 means 30 s.
	Relief time.Duration
}

// Ledger is what one Terraform walk is about to do to each pool. The nil
// Ledger checks nothing and costs nothing (cap_check = "off"). All methods are
// safe for concurrent use.
type Ledger struct{}

// New returns the empty ledger of one walk: call it in Configure, and hang the
// ledger on the object that Configure builds.
func New(cfg Config) *Ledger { return &Ledger{} }

// Applying tells the ledger that this is the apply walk, in which the API
// alone decides: every verdict is empty from now on, nothing is listed, and a
// call that waits returns at once. Call it when the hint says so (Terraform's
// DeferralAllowed, in Configure or ModifyPlan) and first thing in every
// Create, Update and Delete of a resource, for OpenTofu gives no hint.
func (l *Ledger) Applying() {}

// Begin notes that a call from Terraform has arrived. Begin every Read,
// ModifyPlan and ImportState of a resource and every Read of a data source
// with
//
//	call := ledger.Begin()
//	defer call.End()
//
// for the ledger takes a verdict on keys it has not heard of only when nothing
// is in flight.
func (l *Ledger) Begin() *Call { return &Call{} }

// Call is one call from Terraform that is in flight.
type Call struct{}

// End notes that the call returns. Further Ends do nothing.
func (c *Call) End() {}

// Read: Terraform refreshes this key, and it exists. Call it from Read once
// the key was found.
func (c *Call) Read(pool Pool, keyID string) {}

// Keep: the plan keeps this key (prior state, no replace pending), changed or
// not. It can report that the pool is certainly over its cap. ctx bounds a
// wait.
func (c *Call) Keep(ctx context.Context, pool Pool, keyID string) Verdict { return Verdict{} }

// Remove: the plan removes this key from this pool (plan null, or prior state
// with a replace pending, then with the pool of the prior state). It is final:
// a later Keep of the same key changes nothing.
func (c *Call) Remove(pool Pool, keyID string) {}

// Create: the plan adds a key to this pool (prior state null). replacedID is
// the key ID that the private state names when this is the second call of a
// replace, otherwise "": that key goes, from whichever pool it was in. The
// same replacedID counts once, however often it is planned.
//
// It lists the workspace if no create has done so before. It can wait, as
// long as ctx allows, when the verdict hangs on keys that no call has
// mentioned yet; at most one call per ledger does.
func (c *Call) Create(ctx context.Context, pool Pool, replacedID string) Verdict { return Verdict{} }

// Verdict is what a call has to report. The zero Verdict reports nothing.
type Verdict struct {
	// Over holds the pools found to be over their cap, each reported once per
	// ledger however many keys overflow it. A call can report pools other
	// than its own, on behalf of calls that have already returned.
	Over []*OverCap
	// Unchecked is set when the pools of a workspace cannot be checked
	// because its list failed: a warning, once per workspace.
	Unchecked *Unchecked
}
