// Package singlekeys stores the mothership's keys: at most one per workspace
// and provider, without names. They are kept apart from keystore's pools and
// never take part in a rotation. The store only sees sealed values; it runs the
// same SQL on both databases. The API's /api/copilot/byok routes call it.
package singlekeys

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Record is one stored key.
type Record struct {
	Provider  string
	Sealed    string
	CreatedBy string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Store holds the keys. It is safe for concurrent use.
type Store struct {
	db  *database.DB
	now func() time.Time
}

// New returns a Store on a migrated database; now stamps keys.
func New(db *database.DB, now func() time.Time) *Store { return &Store{db: db, now: now} }

// List returns the keys of a workspace by provider.
func (s *Store) List(ctx context.Context, workspaceID string) ([]Record, error) {
	if !keystore.Storable(workspaceID) {
		return nil, nil
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT provider, encrypted_api_key, created_by, created_at, updated_at
		FROM copilot_byok_keys WHERE workspace_id = $1 ORDER BY provider`, workspaceID)
	if err != nil {
		return nil, fmt.Errorf("list single keys: %w", err)
	}
	defer rows.Close()
	var records []Record
	for rows.Next() {
		var r Record
		var created, updated database.Time
		if err := rows.Scan(&r.Provider, &r.Sealed, &r.CreatedBy, &created, &updated); err != nil {
			return nil, fmt.Errorf("list single keys: %w", err)
		}
		r.CreatedAt, r.UpdatedAt = created.Time, updated.Time
		records = append(records, r)
	}
	return records, rows.Err()
}

// Put stores or replaces the key of a workspace and provider and reports
// whether it replaced one. A replaced key keeps its CreatedAt.
func (s *Store) Put(ctx context.Context, workspaceID, provider, sealed, createdBy string) (replaced bool, err error) {
	if !keystore.Storable(workspaceID, provider, sealed, createdBy) {
		return false, keystore.ErrText
	}
	now := database.At(s.now())
	result, err := s.db.Write.ExecContext(ctx, `UPDATE copilot_byok_keys SET encrypted_api_key = $3, created_by = $4, updated_at = $5
		WHERE workspace_id = $1 AND provider = $2`, workspaceID, provider, sealed, createdBy, now)
	if err != nil {
		return false, fmt.Errorf("replace single key: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return true, err
	}
	// Another superuser may have been faster: the later of the two stays.
	_, err = s.db.Write.ExecContext(ctx, `INSERT INTO copilot_byok_keys (workspace_id, provider, encrypted_api_key, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $5)
		ON CONFLICT (workspace_id, provider) DO UPDATE SET
			encrypted_api_key = excluded.encrypted_api_key, created_by = excluded.created_by, updated_at = excluded.updated_at`,
		workspaceID, provider, sealed, createdBy, now)
	if err != nil {
		return false, fmt.Errorf("add single key: %w", err)
	}
	return false, nil
}

// Delete removes the key of a workspace and provider, or returns
// keystore.ErrNotFound.
func (s *Store) Delete(ctx context.Context, workspaceID, provider string) error {
	if !keystore.Storable(workspaceID, provider) {
		return keystore.ErrNotFound
	}
	var gone string
	err := s.db.Write.QueryRowContext(ctx, `DELETE FROM copilot_byok_keys WHERE workspace_id = $1 AND provider = $2 RETURNING provider`,
		workspaceID, provider).Scan(&gone)
	if errors.Is(err, sql.ErrNoRows) {
		return keystore.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete single key: %w", err)
	}
	return nil
}
