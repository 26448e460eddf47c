// Package sqlstore is the key store on SQLite and on PostgreSQL. The queries
// are the same; the dialects differ in how adds to one pool queue up: SQLite
// has one writer anyway, PostgreSQL takes the real server's advisory lock, so
// that both servers can share a database.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// lockWait is how long an add waits for the others of its pool. WIRE.md
// section 5.
const lockWait = 5 * time.Second

// lockNotAvailable is PostgreSQL's SQLSTATE for a lock wait that ran out.
const lockNotAvailable = "55P03"

// Store implements keystore.Store.
type Store struct {
	db     *database.DB
	now    func() time.Time
	scopes map[keystore.Scope]*statements
}

var _ keystore.Store = (*Store)(nil)

// statements are the prepared queries on one scope's table.
type statements struct {
	list, pool, add, replace, remove, removePool, providerIDs *sql.Stmt
	lockPrefix                                                string
}

// New prepares a store on a migrated database. now is the clock that stamps
// keys.
func New(ctx context.Context, db *database.DB, now func() time.Time) (*Store, error) {
	s := &Store{db: db, now: now, scopes: map[keystore.Scope]*statements{}}
	for scope, table := range map[keystore.Scope]string{
		keystore.Workspace:    "workspace",
		keystore.Organization: "organization",
	} {
		prepared, err := prepare(ctx, db, table)
		if err != nil {
			return nil, fmt.Errorf("key store: %w", err)
		}
		s.scopes[scope] = prepared
	}
	return s, nil
}

func prepare(ctx context.Context, db *database.DB, owner string) (*statements, error) {
	st := &statements{lockPrefix: "byok:"}
	if owner == "organization" {
		// Owners of both scopes are arbitrary text; their locks must not meet.
		st.lockPrefix = "byok:organization:"
	}
	const record = "id, provider_id, name, encrypted_api_key, created_by, created_at, updated_at"
	for _, q := range []struct {
		into  **sql.Stmt
		on    *sql.DB
		query string
	}{
		{&st.list, db.Read, "SELECT " + record + " FROM {owner}_byok_keys WHERE {owner}_id = $1 ORDER BY provider_id, created_at, id"},
		{&st.pool, db.Read, "SELECT id, encrypted_api_key FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2 ORDER BY created_at, id"},
		// The count and the insert are one statement: it inserts nothing into a
		// full pool.
		{&st.add, db.Write, `INSERT INTO {owner}_byok_keys ({owner}_id, provider_id, id, name, encrypted_api_key, created_by, created_at, updated_at)
			SELECT $1, $2, $3, $4, $5, $6, {time:$7}, {time:$7}
			WHERE (SELECT count(*) FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2) < $8`},
		{&st.replace, db.Write, `UPDATE {owner}_byok_keys SET encrypted_api_key = $4, updated_at = {time:$5},
			name = CASE WHEN $6 THEN name ELSE $7 END
			WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2 RETURNING ` + record},
		{&st.remove, db.Write, "DELETE FROM {owner}_byok_keys WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2"},
		{&st.removePool, db.Write, "DELETE FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2 RETURNING id"},
		{&st.providerIDs, db.Read, "SELECT DISTINCT provider_id FROM {owner}_byok_keys WHERE {owner}_id = $1 ORDER BY provider_id"},
	} {
		stmt, err := q.on.PrepareContext(ctx, dialectSQL(db.Dialect, strings.ReplaceAll(q.query, "{owner}", owner)))
		if err != nil {
			return nil, err
		}
		*q.into = stmt
	}
	return st, nil
}

// dialectSQL spells out the types that PostgreSQL cannot infer from a SELECT
// list.
func dialectSQL(dialect database.Dialect, query string) string {
	if dialect == database.SQLite {
		return strings.NewReplacer("{time:$7}", "$7", "{time:$5}", "$5").Replace(query)
	}
	return strings.NewReplacer(
		"{time:$7}", "$7::timestamp", "{time:$5}", "$5::timestamp",
		"SELECT $1, $2, $3, $4, $5, $6,", "SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text,",
		"WHEN $6", "WHEN $6::boolean", "ELSE $7", "ELSE $7::text", "< $8", "< $8::bigint",
	).Replace(query)
}

// List implements keystore.Store.
func (s *Store) List(ctx context.Context, owner keystore.Owner) ([]keystore.Record, error) {
	rows, err := s.scopes[owner.Scope].list.QueryContext(ctx, owner.ID)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	defer rows.Close()
	var records []keystore.Record
	for rows.Next() {
		record, err := scanRecord(rows)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		records = append(records, record)
	}
	return records, rows.Err()
}

// Pool implements keystore.Store.
func (s *Store) Pool(ctx context.Context, pool keystore.Pool) ([]keystore.SealedKey, error) {
	rows, err := s.scopes[pool.Scope].pool.QueryContext(ctx, pool.ID, pool.ProviderID)
	if err != nil {
		return nil, fmt.Errorf("read pool: %w", err)
	}
	defer rows.Close()
	var keys []keystore.SealedKey
	for rows.Next() {
		var key keystore.SealedKey
		if err := rows.Scan(&key.ID, &key.Sealed); err != nil {
			return nil, fmt.Errorf("read pool: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// Add implements keystore.Store.
func (s *Store) Add(ctx context.Context, pool keystore.Pool, key keystore.NewKey, limit int) (keystore.Record, error) {
	st := s.scopes[pool.Scope]
	tx, err := s.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return keystore.Record{}, fmt.Errorf("add key: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing

	if s.db.Dialect == database.Postgres {
		if err := takeLock(ctx, tx, st.lockPrefix+pool.ID+":"+pool.ProviderID); err != nil {
			return keystore.Record{}, fmt.Errorf("add key: %w", err)
		}
	}
	at := database.At(s.now())
	result, err := tx.StmtContext(ctx, st.add).ExecContext(ctx, pool.ID, pool.ProviderID, key.ID, key.Name, key.Sealed, key.CreatedBy, at, limit)
	if err != nil {
		return keystore.Record{}, fmt.Errorf("add key: %w", err)
	}
	if added, err := result.RowsAffected(); err != nil {
		return keystore.Record{}, fmt.Errorf("add key: %w", err)
	} else if added == 0 {
		return keystore.Record{}, keystore.ErrFull
	}
	if err := tx.Commit(); err != nil {
		return keystore.Record{}, fmt.Errorf("add key: %w", err)
	}
	return keystore.Record{
		ID: key.ID, ProviderID: pool.ProviderID, Name: key.Name, Sealed: key.Sealed,
		CreatedBy: &key.CreatedBy, CreatedAt: at.Time, UpdatedAt: at.Time,
	}, nil
}

// takeLock makes adds to one pool run one after the other, by the lock of the
// real server. WIRE.md section 5.
func takeLock(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, "SELECT set_config('lock_timeout', $2, true), pg_advisory_xact_lock(hashtextextended($1, 0))",
		name, fmt.Sprint(lockWait.Milliseconds()))
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == lockNotAvailable {
		return keystore.ErrLockTimeout
	}
	return err
}

// Replace implements keystore.Store.
func (s *Store) Replace(ctx context.Context, pool keystore.Pool, id string, with keystore.Replacement) (keystore.Record, error) {
	var name *string
	if with.Name != nil && *with.Name != "" {
		name = with.Name
	}
	record, err := scanRecord(s.scopes[pool.Scope].replace.QueryRowContext(ctx,
		pool.ID, pool.ProviderID, id, with.Sealed, database.At(s.now()), with.Name == nil, name))
	if errors.Is(err, sql.ErrNoRows) {
		return keystore.Record{}, keystore.ErrNotFound
	}
	if err != nil {
		return keystore.Record{}, fmt.Errorf("replace key: %w", err)
	}
	return record, nil
}

// Delete implements keystore.Store.
func (s *Store) Delete(ctx context.Context, pool keystore.Pool, id string) error {
	result, err := s.scopes[pool.Scope].remove.ExecContext(ctx, pool.ID, pool.ProviderID, id)
	if err != nil {
		return fmt.Errorf("delete key: %w", err)
	}
	if removed, err := result.RowsAffected(); err != nil {
		return fmt.Errorf("delete key: %w", err)
	} else if removed == 0 {
		return keystore.ErrNotFound
	}
	return nil
}

// DeletePool implements keystore.Store.
func (s *Store) DeletePool(ctx context.Context, pool keystore.Pool) ([]string, error) {
	return texts(s.scopes[pool.Scope].removePool.QueryContext(ctx, pool.ID, pool.ProviderID))
}

// ProviderIDs implements keystore.Store.
func (s *Store) ProviderIDs(ctx context.Context, owner keystore.Owner) ([]string, error) {
	return texts(s.scopes[owner.Scope].providerIDs.QueryContext(ctx, owner.ID))
}

func texts(rows *sql.Rows, err error) ([]string, error) {
	if err != nil {
		return nil, fmt.Errorf("key store: %w", err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("key store: %w", err)
		}
		all = append(all, text)
	}
	return all, rows.Err()
}

func scanRecord(row interface{ Scan(...any) error }) (keystore.Record, error) {
	var r keystore.Record
	var createdAt, updatedAt database.Time
	err := row.Scan(&r.ID, &r.ProviderID, &r.Name, &r.Sealed, &r.CreatedBy, &createdAt, &updatedAt)
	r.CreatedAt, r.UpdatedAt = createdAt.Time, updatedAt.Time
	return r, err
}
