package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// ListedWorkspace is a workspace as one of its users sees it.
type ListedWorkspace struct {
	Workspace
	ArchivedAt           *Timestamp
	CreatedAt, UpdatedAt Timestamp
	Permission           Permission
	// IsOrgAdmin: the user is owner or admin of its organization.
	IsOrgAdmin bool
}

const findWorkspaces = `SELECT w.id, w.name, w.owner_id, coalesce(w.organization_id, ''), w.archived_at, w.created_at, w.updated_at,
	p.permission_type, m.role FROM workspace w
	LEFT JOIN permissions p ON p.entity_type = 'workspace' AND p.entity_id = w.id AND p.user_id = $1
	LEFT JOIN member m ON m.organization_id = w.organization_id AND m.user_id = $1
	WHERE w.owner_id = $1 OR p.permission_type IS NOT NULL OR m.role IN ('owner', 'admin')
	ORDER BY w.created_at DESC, w.id`

// Workspaces returns every workspace that a user has any permission on,
// archived ones included, newest first.
func (a *Access) Workspaces(ctx context.Context, userID string) (all []ListedWorkspace, err error) {
	rows, err := a.read.QueryContext(ctx, findWorkspaces, userID)
	if err != nil {
		return nil, fmt.Errorf("workspaces: %w", err)
	}
	defer func() { err = errors.Join(err, wrap("workspaces", rows.Err()), rows.Close()) }()
	for rows.Next() {
		var w ListedWorkspace
		var permission, role sql.NullString
		var archived database.NullTime
		var created, updated database.Time
		if err := rows.Scan(&w.ID, &w.Name, &w.OwnerID, &w.OrganizationID, &archived, &created, &updated, &permission, &role); err != nil {
			return nil, fmt.Errorf("workspaces: %w", err)
		}
		if archived.Valid {
			w.ArchivedAt = &Timestamp{archived.Time}
		}
		w.CreatedAt, w.UpdatedAt = Timestamp(created), Timestamp(updated)
		w.Permission, w.IsOrgAdmin = Permission(permission.String), Role(role.String).Manages()
		if w.OwnerID == userID || w.IsOrgAdmin {
			w.Permission = Admin
		}
		all = append(all, w)
	}
	return all, nil
}
