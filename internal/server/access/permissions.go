package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// Permission is what a user may do in a workspace.
type Permission string

// The permissions, each more than the one before. WIRE.md section 3.
const (
	None  Permission = ""
	Read  Permission = "read"
	Write Permission = "write"
	Admin Permission = "admin"
)

// Role is what a user is in an organization.
type Role string

// The roles. Owners and admins of an organization are admins of its
// workspaces.
const (
	NoMember  Role = ""
	Member    Role = "member"
	RoleAdmin Role = "admin"
	Owner     Role = "owner"
)

// Manages reports whether the role may see and change the organization's keys.
func (r Role) Manages() bool { return r == RoleAdmin || r == Owner }

const findGrant = `SELECT w.owner_id, p.permission_type, m.role FROM workspace w
	LEFT JOIN permissions p ON p.entity_type = 'workspace' AND p.entity_id = w.id AND p.user_id = $2
	LEFT JOIN member m ON m.organization_id = w.organization_id AND m.user_id = $2
	WHERE w.id = $1 AND w.archived_at IS NULL`

// findEntry is findSession and, for the session's user, findGrant.
const findEntry = `SELECT w.owner_id, p.permission_type, m.role, ` + sessionColumns + ` FROM session s JOIN "user" u ON u.id = s.user_id
	LEFT JOIN workspace w ON w.id = $2 AND w.archived_at IS NULL
	LEFT JOIN permissions p ON p.entity_type = 'workspace' AND p.entity_id = w.id AND p.user_id = s.user_id
	LEFT JOIN member m ON m.organization_id = w.organization_id AND m.user_id = s.user_id
	WHERE s.token = $1`

// granted is a row of findGrant.
type granted struct{ owner, permission, role sql.NullString }

func (g granted) permissionOf(userID string) Permission {
	if g.owner.String == userID || Role(g.role.String).Manages() {
		return Admin
	}
	return Permission(g.permission.String)
}

// entry is what one request asks for at its beginning: whose session it has, and
// what that user may do in a workspace. It is not safe for concurrent use.
type entry struct {
	workspaceID, userID string
	granted             granted
	found               bool
}

type entryKey struct{}

// Entering returns a context under which FindSession, where it asks the database,
// reads what WorkspacePermission will ask for. It is for one request.
func Entering(ctx context.Context, workspaceID string) context.Context {
	if !storable(workspaceID) {
		return ctx
	}
	return context.WithValue(ctx, entryKey{}, &entry{workspaceID: workspaceID})
}

func entryOf(ctx context.Context) *entry {
	e, _ := ctx.Value(entryKey{}).(*entry)
	return e
}

// findEntry is FindSession and remembers the permission for take.
func (a *Access) findEntry(ctx context.Context, token string, e *entry) (in SignedIn, err error) {
	err = a.readRow(ctx, a.entry, func(r row) error {
		return scanSession(r, &in, &e.granted.owner, &e.granted.permission, &e.granted.role)
	}, token, e.workspaceID)
	e.userID, e.found = in.Session.UserID, err == nil
	return in, err
}

// take returns what FindSession found, once: whoever asks again wants to know
// what has changed since.
func (e *entry) take(userID, workspaceID string) (granted, bool) {
	if e == nil || !e.found || e.userID != userID || e.workspaceID != workspaceID {
		return granted{}, false
	}
	e.found = false
	return e.granted, true
}

// WorkspacePermission returns what a user may do in a workspace, or
// ErrNotFound for one that does not exist or is archived.
func (a *Access) WorkspacePermission(ctx context.Context, userID, workspaceID string) (Permission, error) {
	if !storable(workspaceID) {
		return None, ErrNotFound
	}
	if found, ok := entryOf(ctx).take(userID, workspaceID); ok {
		if !found.owner.Valid {
			return None, ErrNotFound
		}
		return found.permissionOf(userID), nil
	}
	permission, err := a.grants.Read(ctx, grantKey{userID, workspaceID}, func() (Permission, error) {
		var found granted
		err := a.readRow(ctx, a.grant, func(r row) error { return r.Scan(&found.owner, &found.permission, &found.role) }, workspaceID, userID)
		return found.permissionOf(userID), err
	}, func(Permission) bool { return true })
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return None, ErrNotFound
	case err != nil:
		return None, fmt.Errorf("workspace permission: %w", err)
	}
	return permission, nil
}

// grantKey says whose permission on what is asked for.
type grantKey struct{ userID, workspaceID string }

// WorkspaceOrganization returns the ID of the organization that a workspace
// belongs to, or "".
func (a *Access) WorkspaceOrganization(ctx context.Context, workspaceID string) (string, error) {
	if !storable(workspaceID) {
		return "", nil
	}
	var id sql.NullString
	err := a.read.QueryRowContext(ctx, "SELECT organization_id FROM workspace WHERE id = $1", workspaceID).Scan(&id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("workspace organization: %w", err)
	}
	return id.String, nil
}

// OrganizationRole returns what a user is in an organization; NoMember also
// where there is no such organization.
func (a *Access) OrganizationRole(ctx context.Context, userID, organizationID string) (Role, error) {
	if !storable(organizationID) {
		return NoMember, nil
	}
	var role string
	err := a.read.QueryRowContext(ctx, "SELECT role FROM member WHERE organization_id = $1 AND user_id = $2", organizationID, userID).Scan(&role)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return NoMember, fmt.Errorf("organization role: %w", err)
	}
	return Role(role), nil
}

// HasOrganization reports whether there is an organization.
func (a *Access) HasOrganization(ctx context.Context, id string) (bool, error) {
	var n int
	err := a.read.QueryRowContext(ctx, "SELECT count(*) FROM organization WHERE id = $1", id).Scan(&n)
	return n > 0, wrap("find organization", err)
}

// PutOrganization makes an organization, or gives it another name.
func (a *Access) PutOrganization(ctx context.Context, id, name string) error {
	_, err := a.write.ExecContext(ctx, `INSERT INTO organization (id, name, slug, created_at) VALUES ($1, $2, $1, $3)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name`, id, name, database.At(a.now()))
	return wrap("put organization", err)
}

// PutMember makes a user a member of an organization, or changes the role.
func (a *Access) PutMember(ctx context.Context, organizationID, userID string, role Role) error {
	err := a.inTransaction(ctx, "put member", func(tx *sql.Tx) error {
		if err := a.lockUser(ctx, tx, userID); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, "UPDATE member SET role = $3 WHERE organization_id = $1 AND user_id = $2", organizationID, userID, string(role))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n > 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO member (id, user_id, organization_id, role, created_at) VALUES ($1, $2, $3, $4, $5)",
			NewID(a.random), userID, organizationID, string(role), database.At(a.now()))
		return err
	})
	if database.IsDuplicate(err) {
		return fmt.Errorf("the user is a member of another organization already, and Sim's tables allow one: %w", err)
	}
	return err
}

// RemoveMember ends a user's membership in an organization, or returns ErrOwner. As
// in the real product, the user's permissions on the organization's workspaces go
// with it, and those that the user owned become its owner's. It does nothing
// where the user is no member.
func (a *Access) RemoveMember(ctx context.Context, organizationID, userID string) error {
	return a.inTransaction(ctx, "remove member", func(tx *sql.Tx) error {
		if err := a.lockUser(ctx, tx, userID); err != nil {
			return err
		}
		var role string
		err := tx.QueryRowContext(ctx, "DELETE FROM member WHERE organization_id = $1 AND user_id = $2 RETURNING role", organizationID, userID).Scan(&role)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err == nil && Role(role) == Owner:
			err = ErrOwner // which takes the deletion back
		}
		if err != nil {
			return err
		}
		const ofOrganization = "(SELECT id FROM workspace WHERE organization_id = $1)"
		if _, err := tx.ExecContext(ctx, "DELETE FROM permissions WHERE entity_type = 'workspace' AND user_id = $2 AND entity_id IN "+ofOrganization, organizationID, userID); err != nil {
			return err
		}
		const owner = "(SELECT min(user_id) FROM member WHERE organization_id = $1 AND role = 'owner')"
		_, err = tx.ExecContext(ctx, "UPDATE workspace SET owner_id = "+owner+", updated_at = $3 WHERE organization_id = $1 AND owner_id = $2 AND "+owner+" IS NOT NULL",
			organizationID, userID, database.At(a.now()))
		return err
	})
}

// Workspace is a place that holds keys.
type Workspace struct {
	ID, Name, OwnerID string
	// OrganizationID is empty where it belongs to none.
	OrganizationID string
}

// PutWorkspace makes a workspace, or changes its name, owner and organization.
// An archived workspace stays archived.
func (a *Access) PutWorkspace(ctx context.Context, w Workspace) error {
	var organization *string
	if w.OrganizationID != "" {
		organization = &w.OrganizationID
	}
	_, err := a.write.ExecContext(ctx, `INSERT INTO workspace (id, name, owner_id, billed_account_user_id, organization_id, created_at, updated_at) VALUES ($1, $2, $3, $3, $4, $5, $5)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, owner_id = excluded.owner_id, organization_id = excluded.organization_id`,
		w.ID, w.Name, w.OwnerID, organization, database.At(a.now()))
	return wrap("put workspace", err)
}

// PutPermission gives a user a permission on a workspace.
func (a *Access) PutPermission(ctx context.Context, workspaceID, userID string, permission Permission) error {
	_, err := a.write.ExecContext(ctx, `INSERT INTO permissions (id, user_id, entity_type, entity_id, permission_type) VALUES ($1, $2, 'workspace', $3, $4)
		ON CONFLICT (entity_type, entity_id, user_id) DO UPDATE SET permission_type = excluded.permission_type`,
		NewID(a.random), userID, workspaceID, string(permission))
	return wrap("put permission", err)
}

// RemovePermission takes a user's permission on a workspace back, but for what comes
// from the workspace's organization.
func (a *Access) RemovePermission(ctx context.Context, workspaceID, userID string) error {
	_, err := a.write.ExecContext(ctx, "DELETE FROM permissions WHERE entity_type = 'workspace' AND entity_id = $1 AND user_id = $2", workspaceID, userID)
	return wrap("remove permission", err)
}
