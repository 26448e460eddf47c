package provider

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/ledger"
)

const (
	// noticeTimeout bounds a request that only a warning needs.
	noticeTimeout = 10 * time.Second
	// emptySettle is how long the removal of the last key waits for a create of
	// the same plan in the same pool: Terraform plans the two side by side.
	emptySettle = 250 * time.Millisecond
)

// notices are what one plan has warned of already, and what it has asked for
// that: what a workspace inherits, and which workspaces the user has. Whatever
// cannot be told is no reason for an error, nor to ask again.
type notices struct {
	mu         sync.Mutex
	said       map[notice]struct{}
	inherited  map[byok.Scope]func() []string
	workspaces func() []byok.ListedWorkspace
	// organizations says whether a workspace belongs to an organization, where one
	// of the two requests has told: the other is not sent then.
	organizations map[byok.Scope]bool
}

// notice is a warning that a plan has once.
type notice struct {
	summary string
	pool    byok.Pool
}

// reset begins another plan.
func (n *notices) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said, n.inherited, n.workspaces, n.organizations = nil, nil, nil, nil
}

// once reports whether a warning is due, and notes that it was given.
func (n *notices) once(of notice) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, again := n.said[of]; again {
		return false
	}
	if n.said == nil {
		n.said = map[notice]struct{}{}
	}
	n.said[of] = struct{}{}
	return true
}

// learn notes whether a workspace belongs to an organization.
func (n *notices) learn(workspace byok.Scope, belongs bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.organizations == nil {
		n.organizations = map[byok.Scope]bool{}
	}
	n.organizations[workspace] = belongs
}

// inheritedBy returns the provider IDs that a workspace takes from its
// organization. All calls about a workspace share one request.
func (o *operation) inheritedBy(ctx context.Context, workspace byok.Scope) []string {
	n := &o.notices
	n.mu.Lock()
	if belongs, known := n.organizations[workspace]; known && !belongs {
		n.mu.Unlock()
		return nil
	}
	ask := n.inherited[workspace]
	if ask == nil {
		ask = sync.OnceValue(func() []string {
			ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
			defer cancel()
			ids, _ := o.api.Inherited(ctx, workspace)
			if len(ids) > 0 {
				n.learn(workspace, true)
			}
			return ids
		})
		if n.inherited == nil {
			n.inherited = map[byok.Scope]func() []string{}
		}
		n.inherited[workspace] = ask
	}
	n.mu.Unlock()
	return ask()
}

// hasOrganization reports whether a workspace belongs to an organization.
func (o *operation) hasOrganization(ctx context.Context, workspace byok.Scope) bool {
	o.notices.mu.Lock()
	belongs := o.notices.organizations[workspace]
	o.notices.mu.Unlock()
	if belongs {
		return true
	}
	listed, known := o.listedWorkspace(ctx, workspace)
	return known && listed.OrganizationID != nil
}

// listedWorkspace returns what the list of the user's workspaces says of one. All
// calls share one request.
func (o *operation) listedWorkspace(ctx context.Context, workspace byok.Scope) (listed byok.ListedWorkspace, known bool) {
	n := &o.notices
	n.mu.Lock()
	if n.workspaces == nil {
		n.workspaces = sync.OnceValue(func() []byok.ListedWorkspace {
			ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
			defer cancel()
			all, err := o.api.Workspaces(ctx)
			if err == nil {
				for _, w := range all {
					n.learn(byok.WorkspaceScope(w.ID), w.OrganizationID != nil)
				}
			}
			return all
		})
	}
	ask := n.workspaces
	n.mu.Unlock()
	for _, listed := range ask() {
		if workspace == byok.WorkspaceScope(listed.ID) {
			return listed, true
		}
	}
	return byok.ListedWorkspace{}, false
}

// poolName names a pool in the summary of a warning.
func poolName(pool byok.Pool) string {
	return fmt.Sprintf("%q in %s %q", pool.ProviderID, pool.Scope.Kind, pool.Scope.ID)
}

// inherits reports whether a pool of the scope can take the place of one of an
// organization.
func (o *operation) inherits(scope byok.Scope) bool {
	return o.api != nil && scopeKinds[scope.Kind].inherits && o.deployment == deploymentHosted
}

// beginDiagnostics warns of the first key of a pool that the workspace has so
// far taken from its organization. It needs the list that the plan has fetched.
func (o *operation) beginDiagnostics(ctx context.Context, pool byok.Pool) (diags diag.Diagnostics) {
	const summary = "The organization's keys step aside"
	if !o.inherits(pool.Scope) {
		return nil
	}
	keys, listed := o.api.ListedKeys(pool.Scope)
	if !listed || len(inPool(keys, pool)) > 0 || !o.notices.once(notice{summary, pool}) ||
		!slices.Contains(o.inheritedBy(ctx, pool.Scope), pool.ProviderID) {
		return nil
	}
	diags.AddAttributeWarning(path.Root("provider_id"), about(summary, poolName(pool)), fmt.Sprintf(
		"This plan adds the first key of provider ID %q to %s %q, which currently uses the keys of its organization for this provider ID. "+
			"Once it has a key of its own, none of the organization's keys of this provider ID is used there.\n\n"+
			"If the new keys are to serve all workspaces, store them in the organization (organization_id).",
		pool.ProviderID, pool.Scope.Kind, pool.Scope.ID))
	return diags
}

// endDiagnostics warns of the removal of the last key of a pool in a workspace
// that has an organization. Terraform before 1.12 plans a removal before it
// refreshes, and a destroy refreshes with another provider: where there is no
// list yet, it is asked for.
func (o *operation) endDiagnostics(ctx context.Context, call *ledger.Call, pool byok.Pool) (diags diag.Diagnostics) {
	const summary = "The last key of a pool is removed"
	if !o.inherits(pool.Scope) {
		return nil
	}
	keys, listed := o.api.ListedKeys(pool.Scope)
	if !listed {
		if call == nil || !o.hasOrganization(ctx, pool.Scope) {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
		defer cancel()
		keys, _ = o.api.List(ctx, pool.Scope)
	}
	var ids []string
	for _, key := range inPool(keys, pool) {
		ids = append(ids, key.ID)
	}
	if !call.Empties(pool, ids) || !o.hasOrganization(ctx, pool.Scope) {
		return nil
	}
	select {
	case <-time.After(emptySettle):
	case <-ctx.Done():
	}
	if !call.Empties(pool, ids) || !o.notices.once(notice{summary, pool}) {
		return nil
	}
	diags.AddWarning(about(summary, poolName(pool)), fmt.Sprintf(
		"This plan removes the last key of provider ID %q from %s %q. From then on, the workspace takes its keys of this provider ID from its organization, if the organization has any; otherwise it has none.",
		pool.ProviderID, pool.Scope.Kind, pool.Scope.ID))
	return diags
}
