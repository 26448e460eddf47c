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
	hinted  bool // some call had the hint, so that Terraform gives it
	plans   bool // a call that occurs in plans only
	applies bool
	began   time.Time
}

// read notes a call that occurs in plans only. It reports whether a new
// operation begins, and whether lists are too old for it.
func (p *phase) read() (restart, stale bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	restart = p.applies
	stale = restart || !p.began.IsZero() && time.Since(p.began) > snapshotAge
	if stale || p.began.IsZero() {
		p.began = time.Now()
	}
	p.plans, p.applies = true, false
	return restart, stale
}

// plan notes a planning call that is not a removal.
func (p *phase) plan(hint bool) (restart bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if restart = p.applies && p.hinted && !hint; restart {
		p.began = time.Now()
		p.plans, p.applies = false, false
	}
	p.hinted = p.hinted || hint
	return restart
}

func (p *phase) apply() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plans, p.applies = false, true
}

// mayApply reports whether a planning call can be part of an apply.
func (p *phase) mayApply(hint bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applies || hint && !p.plans
}

// beginRead begins a call that reads or imports a key.
func (o *operation) beginRead() *ledger.Call {
	o.restart(o.phase.read())
	return o.ledger.Begin()
}

// beginPlan begins a call that plans a key. hint is DeferralAllowed.
func (o *operation) beginPlan(hint, removal bool) *ledger.Call {
	if removal {
		o.restart(o.phase.read())
	} else {
		restart := o.phase.plan(hint)
		o.restart(restart, restart)
	}
	return o.ledger.Begin()
}

// beginApply begins a call that creates, updates or deletes a key.
func (o *operation) beginApply() {
	o.phase.apply()
	o.ledger.Apply()
}

func (o *operation) restart(plan, lists bool) {
	if lists && o.api != nil {
		o.api.Forget()
	}
	if plan {
		o.ledger.Restart()
	}
}
