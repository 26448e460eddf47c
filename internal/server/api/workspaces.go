package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// The values of the query parameter scope of GET /api/workspaces.
const (
	scopeActive   = "active"
	scopeArchived = "archived"
	scopeAll      = "all"
)

var listScopes = []string{scopeActive, scopeArchived, scopeAll}

// listWorkspaces is GET /api/workspaces. Of each workspace it has the fields
// that clients need. WIRE.md section 14.
func listWorkspaces(x *exchange) response {
	if err := x.authenticate(); err != nil {
		return x.fail(err, keystore.Workspace)
	}
	query := x.Request.URL.Query()
	scope := query.Get("scope")
	if !query.Has("scope") {
		scope = scopeActive
	}
	if !slices.Contains(listScopes, scope) {
		return unknownListScope().response("")
	}
	all, err := x.Access.Workspaces(x.ctx(), x.actor.ID)
	if err == nil && scope == scopeActive && !slices.ContainsFunc(all, isActive) {
		if err = x.createFirstWorkspace(); err == nil {
			all, err = x.Access.Workspaces(x.ctx(), x.actor.ID)
		}
	}
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}

	owned := 0
	list := []byte{'['}
	for _, w := range all {
		if w.OwnerID == x.actor.ID {
			owned++
		}
		if scope != scopeAll && (scope == scopeActive) != isActive(w) {
			continue
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, x.listedWorkspace(w)...)
	}
	policy := new(object).raw("canCreate", "true").string("workspaceMode", "personal").raw("organizationId", "null").
		string("billedAccountUserId", x.actor.ID).raw("maxWorkspaces", "null").raw("currentWorkspaceCount", strconv.Itoa(owned)).
		raw("reason", "null").raw("status", "200").raw("observedOrganizationId", "null").end()
	return ok(new(object).raw("workspaces", string(append(list, ']'))).raw("lastActiveWorkspaceId", "null").
		raw("pinnedWorkspaceIds", "[]").raw("creationPolicy", string(policy)).end())
}

func isActive(w access.ListedWorkspace) bool { return w.ArchivedAt == nil }

// createFirstWorkspace does what the real server does for a user without a
// workspace.
func (x *exchange) createFirstWorkspace() error {
	return x.Access.PutWorkspace(x.writeCtx(), access.Workspace{
		ID: access.NewUUID(x.Random), Name: cmp.Or(x.actor.Name, "User") + "'s Workspace", OwnerID: x.actor.ID,
	})
}

func (x *exchange) listedWorkspace(w access.ListedWorkspace) []byte {
	var organizationID, archivedAt *string
	if w.OrganizationID != "" {
		organizationID = &w.OrganizationID
	}
	if w.ArchivedAt != nil {
		at := byok.FormatTime(w.ArchivedAt.Time)
		archivedAt = &at
	}
	role := "member"
	if w.OwnerID == x.actor.ID {
		role = "owner"
	}
	return new(object).string("id", w.ID).string("name", w.Name).string("ownerId", w.OwnerID).nullable("organizationId", organizationID).
		nullable("archivedAt", archivedAt).string("createdAt", byok.FormatTime(w.CreatedAt.Time)).string("updatedAt", byok.FormatTime(w.UpdatedAt.Time)).
		string("role", role).string("permissions", string(w.Permission)).raw("isOrgAdmin", strconv.FormatBool(w.IsOrgAdmin)).end()
}

func unknownListScope() *failure {
	quoted := make([]string, len(listScopes))
	for i, scope := range listScopes {
		quoted[i] = strconv.Quote(scope)
	}
	issue := new(object).string("code", "invalid_value").raw("values", "["+strings.Join(quoted, ",")+"]").raw("path", `["scope"]`).
		string("message", "Invalid option: expected one of "+strings.Join(quoted, "|")).end()
	return &failure{status: 400, message: "Invalid query parameters", details: "[" + string(issue) + "]"}
}
