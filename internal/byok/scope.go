package byok

import (
	"cmp"
	"net/url"
)

// ScopeKind is what holds pools of keys. The zero value is a workspace.
type ScopeKind uint8

// The kinds of scopes.
const (
	Workspace ScopeKind = iota
	Organization
)

// scopeKinds says in what the kinds differ on the wire: one row a kind. What
// they differ in for Terraform is a row in package provider.
var scopeKinds = [...]struct{ noun, path string }{
	Workspace:    {noun: "workspace", path: "/api/workspaces/"},
	Organization: {noun: "organization", path: "/api/organizations/"},
}

// String returns "workspace" or "organization", as messages use it.
func (k ScopeKind) String() string { return scopeKinds[k].noun }

// Scope is where pools live: one workspace, or one organization. The zero
// Scope names none.
type Scope struct {
	Kind ScopeKind
	ID   string
}

// WorkspaceScope is the scope of the workspace with this ID.
func WorkspaceScope(id string) Scope { return Scope{Kind: Workspace, ID: id} }

// OrganizationScope is the scope of the organization with this ID.
func OrganizationScope(id string) Scope { return Scope{Kind: Organization, ID: id} }

// KeysPath is the path of the routes that list, add, replace and delete the
// keys of the scope: /api/workspaces/ID/byok-keys, ID escaped. WIRE.md
// sections 4 to 7.
func (s Scope) KeysPath() string {
	return scopeKinds[s.Kind].path + url.PathEscape(s.ID) + "/byok-keys"
}

// InheritedPath is the path of the route that tells which provider IDs a
// workspace takes from its organization. WIRE.md section 7.
func (s Scope) InheritedPath() string { return s.KeysPath() + "/inherited-status" }

// String returns the ID, with "organization/" before that of an organization,
// as import IDs have it.
func (s Scope) String() string {
	if s.Kind == Workspace {
		return s.ID
	}
	return s.Kind.String() + "/" + s.ID
}

// Compare orders scopes by kind, then by ID.
func (s Scope) Compare(other Scope) int {
	return cmp.Or(cmp.Compare(s.Kind, other.Kind), cmp.Compare(s.ID, other.ID))
}

// Pool names the keys of one provider ID in one scope. Sim caps, orders and
// rotates pools. WIRE.md sections 5 and 8.
type Pool struct {
	Scope      Scope
	ProviderID string
}

// String returns WORKSPACE_ID/PROVIDER_ID, or
// organization/ORGANIZATION_ID/PROVIDER_ID.
func (p Pool) String() string { return p.Scope.String() + "/" + p.ProviderID }

// Compare orders pools by scope, then by provider ID.
func (p Pool) Compare(other Pool) int {
	return cmp.Or(p.Scope.Compare(other.Scope), cmp.Compare(p.ProviderID, other.ProviderID))
}
