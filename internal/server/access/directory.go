package access

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// superuserRole is the role of a platform superuser; everybody else is "user".
const superuserRole = "admin"

// SetSuperuser makes a user a superuser of the platform, or an ordinary user
// again.
func (a *Access) SetSuperuser(ctx context.Context, userID string, yes bool) error {
	role := "user"
	if yes {
		role = superuserRole
	}
	_, err := a.write.ExecContext(ctx, `UPDATE "user" SET role = $2, updated_at = $3 WHERE id = $1 AND role IS DISTINCT FROM $2`,
		userID, role, database.At(a.now()))
	return wrap("set superuser", err)
}

// IsSuperuser reports whether a user is a superuser now. It never relies on a
// session_data cookie, which may be five minutes old.
func (a *Access) IsSuperuser(ctx context.Context, userID string) (bool, error) {
	var role sql.NullString
	err := a.read.QueryRowContext(ctx, `SELECT role FROM "user" WHERE id = $1`, userID).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return role.String == superuserRole, wrap("find superuser", err)
}

// maxWorkspaces bounds the list of one user's workspaces.
const maxWorkspaces = 200

// VisibleWorkspaces returns the workspaces that a user can see, by name.
// Archived ones are left out.
func (a *Access) VisibleWorkspaces(ctx context.Context, userID string) ([]Workspace, error) {
	all, err := a.Workspaces(ctx, userID)
	if err != nil {
		return nil, err
	}
	var visible []Workspace
	for _, w := range all {
		if w.ArchivedAt == nil {
			visible = append(visible, w.Workspace)
		}
	}
	slices.SortFunc(visible, func(x, y Workspace) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return visible[:min(len(visible), maxWorkspaces)], nil
}

// FindWorkspace returns a workspace that is not archived, or ErrNotFound.
func (a *Access) FindWorkspace(ctx context.Context, id string) (Workspace, error) {
	if !storable(id) {
		return Workspace{}, ErrNotFound
	}
	w, err := scanWorkspace(a.read.QueryRowContext(ctx,
		"SELECT id, name, owner_id, organization_id FROM workspace WHERE id = $1 AND archived_at IS NULL", id))
	if errors.Is(err, sql.ErrNoRows) {
		return w, ErrNotFound
	}
	return w, wrap("find workspace", err)
}

func scanWorkspace(row interface{ Scan(...any) error }) (Workspace, error) {
	var w Workspace
	var organization sql.NullString
	err := row.Scan(&w.ID, &w.Name, &w.OwnerID, &organization)
	w.OrganizationID = organization.String
	return w, err
}

// OrganizationName returns the name of an organization, or ErrNotFound.
func (a *Access) OrganizationName(ctx context.Context, id string) (string, error) {
	var name string
	err := a.read.QueryRowContext(ctx, "SELECT name FROM organization WHERE id = $1", id).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNotFound
	}
	return name, wrap("find organization", err)
}

// maxNames is the number of users that one query names.
const maxNames = 500

// UserNames returns the names of users by ID: the name, or the address of a
// user without one. Users who do not exist are left out.
func (a *Access) UserNames(ctx context.Context, ids []string) (map[string]string, error) {
	names := make(map[string]string, len(ids))
	if len(ids) == 0 {
		return names, nil
	}
	if len(ids) > maxNames {
		ids = ids[:maxNames]
	}
	args, marks := make([]any, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		args[i], marks[i] = id, "$"+strconv.Itoa(i+1)
	}
	rows, err := a.read.QueryContext(ctx, `SELECT id, name, email FROM "user" WHERE id IN (`+strings.Join(marks, ", ")+")", args...) //nolint:gosec // placeholders only
	if err != nil {
		return nil, wrap("name users", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, name, email string
		if err := rows.Scan(&id, &name, &email); err != nil {
			return nil, fmt.Errorf("name users: %w", err)
		}
		if name == "" {
			name = email
		}
		names[id] = name
	}
	return names, wrap("name users", rows.Err())
}
