package provider

import (
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

// snapshotAge is how old a list may be before a read fetches it again, for a
// provider that Terraform configures once for several operations.
const snapshotAge = 2 * time.Minute

// phase tells plans from applies. No call of Terraform says which of the two it
// belongs to:
//
//   - ReadResource, ImportResourceState, and the plan of a removal occur in
//     plans only, ApplyResourceChange in applies only.
//   - Terraform sets DeferralAllowed in every planning call of an apply, and not
//     in a plan. It does set it in plans with -allow-deferral and in Stacks, and
//     OpenTofu never sets it.
//   - An apply plans creates and updates again, each immediately before its
//     ApplyResourceChange.
//
// terraform test, from 1.13 on, can configure a provider once for several plans
// and applies. What proves a plan after an apply begins a new operation.
type phase struct {
	mu      sync.Mutex
	hinted  bool // some call had the hint, so Terraform gives it
	plans   bool // a call occurred that only plans make
	applies bool
	listed  time.Time // since when lists are kept
}

// mayApply reports whether a planning call can be part of an apply. hint is its
// DeferralAllowed.
func (p *phase) mayApply(hint bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applies || hint && !p.plans
}

// beginRead begins a call that reads or imports a key.
func (o *operation) beginRead() *ledger.Call {
	o.phase.mu.Lock()
	defer o.phase.mu.Unlock()
	if o.phase.applies {
		o.restart()
	}
	o.phase.plans = true
	o.forgetOldLists()
	return o.ledger.Begin()
}

// beginList begins the read of a data source, which plans and applies make.
func (o *operation) beginList() *ledger.Call {
	o.phase.mu.Lock()
	defer o.phase.mu.Unlock()
	o.forgetOldLists()
	return o.ledger.Begin()
}

// beginPlan begins a call that plans a key, or its removal. hint is its
// DeferralAllowed.
func (o *operation) beginPlan(hint, removal bool) *ledger.Call {
	o.phase.mu.Lock()
	defer o.phase.mu.Unlock()
	if o.phase.applies && (removal || o.phase.hinted && !hint) {
		o.restart()
	}
	o.phase.hinted = o.phase.hinted || hint
	o.phase.plans = o.phase.plans || removal
	return o.ledger.Begin()
}

// beginApply begins a call that creates, updates or deletes a key.
func (o *operation) beginApply() {
	o.phase.mu.Lock()
	defer o.phase.mu.Unlock()
	o.phase.plans, o.phase.applies = false, true
	o.ledger.Apply()
}

// restart begins a new operation.
func (o *operation) restart() {
	o.phase.plans, o.phase.applies = false, false
	o.phase.listed = time.Time{}
	o.ledger.Restart()
	o.notices.reset()
	if o.api != nil {
		o.api.Forget()
	}
}

func (o *operation) forgetOldLists() {
	now := time.Now()
	if !o.phase.listed.IsZero() && now.Sub(o.phase.listed) <= snapshotAge {
		return
	}
	if !o.phase.listed.IsZero() && o.api != nil {
		o.api.Forget()
	}
	o.phase.listed = now
}
