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
// warnings alone. Whatever cannot be told is no reason for an error, nor to ask
// again.
type notices struct {
	mu         sync.Mutex
	said       map[notice]struct{}
	scopes     map[byok.Scope]*standing
	workspaces func() []byok.ListedWorkspace
}

// notice is a warning that a plan has once.
type notice struct {
	summary string
	pool    byok.Pool
}

// standing is what a plan has found out about a workspace and its organization.
// It sends one request for each workspace: that which the first pool to begin or
// to end needs.
type standing struct {
	mu    sync.Mutex
	asked bool
	// inherited are the provider IDs that the workspace takes from its
	// organization, where listed is set.
	inherited []string
	listed    bool
	// organization reports whether the workspace belongs to one.
	organization certainty
}

// certainty is how sure a plan is of what a warning says.
type certainty int

const (
	no certainty = iota
	perhaps
	yes
)

func certain(is bool) certainty {
	if is {
		return yes
	}
	return no
}

// reset begins another plan.
func (n *notices) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said, n.scopes, n.workspaces = nil, nil, nil
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

// of returns what the plan knows of a workspace, which all calls share.
func (n *notices) of(workspace byok.Scope) *standing {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.scopes == nil {
		n.scopes = map[byok.Scope]*standing{}
	}
	if n.scopes[workspace] == nil {
		n.scopes[workspace] = new(standing)
	}
	return n.scopes[workspace]
}

// inheritedBy reports whether a workspace takes a provider ID from its
// organization.
func (o *operation) inheritedBy(ctx context.Context, pool byok.Pool) certainty {
	s := o.notices.of(pool.Scope)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.asked = true
		ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
		defer cancel()
		inherited, err := o.api.Inherited(ctx, pool.Scope)
		if err == nil {
			// Without any, the organization may have keys of those provider IDs
			// alone that the workspace has keys of, too.
			s.inherited, s.listed, s.organization = inherited, true, max(perhaps, certain(len(inherited) > 0))
		}
	}
	if !s.listed {
		return min(perhaps, s.organization)
	}
	return certain(slices.Contains(s.inherited, pool.ProviderID))
}

// hasOrganization reports whether a workspace belongs to an organization. All
// workspaces share one request.
func (o *operation) hasOrganization(ctx context.Context, workspace byok.Scope) certainty {
	s := o.notices.of(workspace)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.asked = true
		s.organization = certain(slices.ContainsFunc(o.listedWorkspaces(ctx), func(w byok.ListedWorkspace) bool {
			return w.ID == workspace.ID && w.OrganizationID != nil
		}))
	}
	return s.organization
}

// listedWorkspaces are those that the session has.
func (o *operation) listedWorkspaces(ctx context.Context) []byok.ListedWorkspace {
	n := &o.notices
	n.mu.Lock()
	if n.workspaces == nil {
		n.workspaces = sync.OnceValue(func() []byok.ListedWorkspace {
			ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
			defer cancel()
			all, _ := o.api.Workspaces(ctx)
			return all
		})
	}
	ask := n.workspaces
	n.mu.Unlock()
	return ask()
}

// inherits reports whether a pool of the scope can take the place of one of an
// organization.
func (o *operation) inherits(scope byok.Scope) bool {
	return o.api != nil && scopeKinds[scope.Kind].inherits && o.deployment == deploymentHosted
}

// beginDiagnostics warns of the first key of a pool that the workspace has so
// far taken from its organization. It needs the list that the plan has fetched.
// replaced are the IDs of the keys that make way.
func (o *operation) beginDiagnostics(ctx context.Context, pool byok.Pool, replaced []string) (diags diag.Diagnostics) {
	const summary = "The organization's keys step aside"
	if !o.inherits(pool.Scope) {
		return nil
	}
	keys, listed := o.api.ListedKeys(pool.Scope)
	if !listed || len(inPool(keys, pool)) > 0 || !o.notices.once(notice{summary, pool}) {
		return nil
	}
	if slices.ContainsFunc(keys, func(key byok.Key) bool { return slices.Contains(replaced, key.ID) }) {
		// They leave another pool of the workspace, which may end: whether there is
		// an organization tells about both, since without one nothing is inherited.
		o.hasOrganization(ctx, pool.Scope)
	}
	taken := map[certainty]string{
		perhaps: "which belongs to an organization. If the organization has keys of this provider ID, the workspace uses them so far. ",
		yes:     "which takes its keys of this provider ID from its organization so far. ",
	}[o.inheritedBy(ctx, pool)]
	if taken == "" {
		return nil
	}
	diags.AddAttributeWarning(path.Root("provider_id"), summary, fmt.Sprintf(
		"This plan adds the first key of provider ID %q to %s %q, %s"+
			"Once it has a key of its own, none of the organization's keys is used there: the organization's whole pool steps aside.\n\n"+
			"If the new keys are to serve all workspaces, store them in the organization (organization_id).",
		pool.ProviderID, pool.Scope.Kind, pool.Scope.ID, taken))
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
		if call == nil || o.hasOrganization(ctx, pool.Scope) == no {
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
	if !call.Empties(pool, ids) {
		return nil
	}
	organization := o.hasOrganization(ctx, pool.Scope)
	if organization == no {
		return nil
	}
	select {
	case <-time.After(emptySettle):
	case <-ctx.Done():
	}
	if !call.Empties(pool, ids) || !o.notices.once(notice{summary, pool}) {
		return nil
	}
	then := map[certainty]string{
		perhaps: "From then on, it takes those of its organization, if it belongs to one that has any; otherwise it has none.",
		yes:     "From then on, it takes those of its organization, if the organization has any; otherwise it has none.",
	}[organization]
	diags.AddWarning(summary, fmt.Sprintf(
		"This plan removes the last key of provider ID %q that %s %q has of its own. %s",
		pool.ProviderID, pool.Scope.Kind, pool.Scope.ID, then))
	return diags
}
