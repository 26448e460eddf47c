// Package sqlite is the key store on SQLite: reads run side by side, writes go
// through one queue that commits all who wait together. Its callers know it as
// a keystore.Store. The schema and the file belong to package database.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Store implements keystore.Store.
type Store struct {
	db        *database.DB
	now       func() time.Time
	writes    *queue
	pools     *database.Memo[keystore.Pool, []keystore.SealedKey]
	workspace *statements
	org       *statements
}

var _ keystore.Store = (*Store)(nil)

// statements are the prepared queries on one scope's table.
type statements struct {
	list, visit, pool, sealed        *sql.Stmt
	providerIDs                      *sql.Stmt
	add, replace, remove, removePool *sql.Stmt
}

// The queries, {owner} being workspace or organization. Each write is one
// statement: package queue relies on it.
const (
	inlineKey        = "CASE WHEN octet_length(encrypted_api_key) <= {limit} THEN encrypted_api_key ELSE '' END"
	ofOwner          = " FROM {owner}_byok_keys WHERE {owner}_id = $1 ORDER BY provider_id, created_at, id"
	listQuery        = "SELECT id, provider_id, name, " + inlineKey + ", created_by, created_at, updated_at" + ofOwner
	visitQuery       = "SELECT id, provider_id, name, encrypted_api_key, created_by, created_at, updated_at" + ofOwner
	sealedQuery      = "SELECT encrypted_api_key FROM {owner}_byok_keys WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2"
	poolQuery        = "SELECT id, " + inlineKey + " FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2 ORDER BY created_at, id"
	providerIDsQuery = "SELECT DISTINCT provider_id FROM {owner}_byok_keys WHERE {owner}_id = $1 ORDER BY provider_id"
	// It inserts nothing into a full pool.
	addQuery = `INSERT INTO {owner}_byok_keys ({owner}_id, provider_id, id, name, encrypted_api_key, created_by, created_at, updated_at)
		SELECT $1, $2, $3, $4, $5, $6, $7, $7
		WHERE (SELECT count(*) FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2) < $8`
	replaceQuery = `UPDATE {owner}_byok_keys SET encrypted_api_key = $4, updated_at = $5, name = CASE WHEN $6 THEN name ELSE $7 END
		WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2 RETURNING id, provider_id, name, '', created_by, created_at, updated_at`
	removeQuery     = "DELETE FROM {owner}_byok_keys WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2"
	removePoolQuery = "DELETE FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2 RETURNING id"
)

// New returns a store on a migrated database, which it does not close. now is
// the clock that stamps keys.
func New(ctx context.Context, db *database.DB, now func() time.Time) (*Store, error) {
	s := &Store{db: db, now: now, writes: newQueue(db), pools: database.NewMemo[keystore.Pool, []keystore.SealedKey](db)}
	var err error
	if s.workspace, err = prepare(ctx, db, "workspace"); err == nil {
		s.org, err = prepare(ctx, db, "organization")
	}
	if err != nil {
		return nil, fmt.Errorf("open the key store: %w", database.Explain(err))
	}
	return s, nil
}

func prepare(ctx context.Context, db *database.DB, owner string) (*statements, error) {
	st := &statements{}
	for _, q := range []struct {
		into  **sql.Stmt
		on    *sql.DB
		query string
	}{
		{&st.list, db.Read, listQuery},
		{&st.visit, db.Read, visitQuery},
		{&st.pool, db.Read, poolQuery},
		{&st.sealed, db.Read, sealedQuery},
		{&st.providerIDs, db.Read, providerIDsQuery},
		{&st.add, db.Write, addQuery},
		{&st.replace, db.Write, replaceQuery},
		{&st.remove, db.Write, removeQuery},
		{&st.removePool, db.Write, removePoolQuery},
	} {
		stmt, err := q.on.PrepareContext(ctx, complete(q.query, owner))
		if err != nil {
			return nil, err
		}
		*q.into = stmt
	}
	return st, nil
}

func complete(query, owner string) string {
	return strings.NewReplacer("{owner}", owner, "{limit}", strconv.Itoa(keystore.InlineLimit)).Replace(query)
}

// List implements keystore.Store.
func (s *Store) List(ctx context.Context, owner keystore.Owner) ([]keystore.Record, error) {
	if !keystore.Storable(owner.ID) {
		return nil, nil
	}
	records, err := read(ctx, s.db, s.on(owner.Scope).list, scanRecord, owner.ID)
	return records, explain("list keys", err)
}

// WillList implements keystore.Store.
func (s *Store) WillList(ctx context.Context, _ keystore.Owner) context.Context {
	return database.AtOneMoment(ctx)
}

// Visit implements keystore.Store.
func (s *Store) Visit(ctx context.Context, owner keystore.Owner, visit func(keystore.Record) error) error {
	if !keystore.Storable(owner.ID) {
		return nil
	}
	ctx, done, err := s.db.ForRead(ctx)
	if err != nil {
		return explain("list keys", err)
	}
	defer done()
	return explain("list keys", each(ctx, s.on(owner.Scope).visit, func(row scanner) error {
		record, err := scanRecord(row)
		if err != nil {
			return err
		}
		return visit(record)
	}, owner.ID))
}

// Sealed implements keystore.Store.
func (s *Store) Sealed(ctx context.Context, pool keystore.Pool, id string) (string, error) {
	if !pool.Storable(id) {
		return "", keystore.ErrNotFound
	}
	found, err := read(ctx, s.db, s.on(pool.Scope).sealed, scanText, pool.ID, pool.ProviderID, id)
	if err == nil && len(found) == 0 {
		err = keystore.ErrNotFound
	}
	if err != nil {
		return "", explain("read key", err)
	}
	return found[0], nil
}

// Pool implements keystore.Store.
func (s *Store) Pool(ctx context.Context, pool keystore.Pool) ([]keystore.SealedKey, error) {
	if !pool.Storable() {
		return nil, nil
	}
	keys, err := s.pools.Read(ctx, pool, func() ([]keystore.SealedKey, error) {
		keys, err := read(ctx, s.db, s.on(pool.Scope).pool, func(row scanner) (key keystore.SealedKey, err error) {
			err = row.Scan(&key.ID, &key.Sealed)
			return key, err
		}, pool.ID, pool.ProviderID)
		return slices.Clip(keys), err
	}, isSmall)
	return keys, explain("read pool", err)
}

// keptBytes is how much sealed text a pool may have to be kept.
const keptBytes = 64 << 10

func isSmall(all []keystore.SealedKey) bool {
	size := 0
	for _, key := range all {
		size += len(key.Sealed)
	}
	return size <= keptBytes
}

// Add implements keystore.Store.
func (s *Store) Add(ctx context.Context, pool keystore.Pool, key keystore.NewKey, limit int) (keystore.Record, error) {
	if !pool.Storable(key.ID, keystore.Text(key.Name), key.Sealed, key.CreatedBy) {
		return keystore.Record{}, fmt.Errorf("add key: %w", keystore.ErrText)
	}
	record, err := do(ctx, s.writes, func(tx *sql.Tx) (keystore.Record, error) {
		at := database.At(s.now())
		record := key.Record(pool)
		record.CreatedAt, record.UpdatedAt = at.Time, at.Time
		added, err := exec(tx, s.on(pool.Scope).add,
			pool.ID, pool.ProviderID, record.ID, record.Name, record.Sealed, record.CreatedBy, at, limit)
		if err == nil && added == 0 {
			err = keystore.ErrFull
		}
		return record, err
	})
	return record, explain("add key", err)
}

// Replace implements keystore.Store.
func (s *Store) Replace(ctx context.Context, pool keystore.Pool, id string, with keystore.Replacement) (keystore.Record, error) {
	name := keystore.Text(with.Name)
	if !keystore.Storable(name, with.Sealed) {
		return keystore.Record{}, fmt.Errorf("replace key: %w", keystore.ErrText)
	}
	if !pool.Storable(id) {
		return keystore.Record{}, keystore.ErrNotFound
	}
	record, err := do(ctx, s.writes, func(tx *sql.Tx) (keystore.Record, error) {
		record, err := scanRecord(tx.StmtContext(context.Background(), s.on(pool.Scope).replace).QueryRowContext(context.Background(),
			pool.ID, pool.ProviderID, id, with.Sealed, database.At(s.now()), with.Name == nil, keystore.Optional(name)))
		if errors.Is(err, sql.ErrNoRows) {
			err = keystore.ErrNotFound
		}
		record.Sealed = with.Sealed
		return record, err
	})
	return record, explain("replace key", err)
}

// Delete implements keystore.Store.
func (s *Store) Delete(ctx context.Context, pool keystore.Pool, id string) error {
	if !pool.Storable(id) {
		return keystore.ErrNotFound
	}
	_, err := do(ctx, s.writes, func(tx *sql.Tx) (int64, error) {
		removed, err := exec(tx, s.on(pool.Scope).remove, pool.ID, pool.ProviderID, id)
		if err == nil && removed == 0 {
			err = keystore.ErrNotFound
		}
		return removed, err
	})
	return explain("delete key", err)
}

// DeletePool implements keystore.Store.
func (s *Store) DeletePool(ctx context.Context, pool keystore.Pool) ([]string, error) {
	if !pool.Storable() {
		return nil, nil
	}
	ids, err := do(ctx, s.writes, func(tx *sql.Tx) ([]string, error) {
		return collect(context.Background(), tx.StmtContext(context.Background(), s.on(pool.Scope).removePool), scanText, pool.ID, pool.ProviderID)
	})
	return ids, explain("delete pool", err)
}

// ProviderIDs implements keystore.Store.
func (s *Store) ProviderIDs(ctx context.Context, owner keystore.Owner) ([]string, error) {
	if !keystore.Storable(owner.ID) {
		return nil, nil
	}
	ids, err := read(ctx, s.db, s.on(owner.Scope).providerIDs, scanText, owner.ID)
	return ids, explain("list provider IDs", err)
}

func (s *Store) on(scope keystore.Scope) *statements {
	if scope == keystore.Organization {
		return s.org
	}
	return s.workspace
}

type scanner interface{ Scan(...any) error }

// read returns every row of a query, on a connection for reads.
func read[T any](ctx context.Context, db *database.DB, stmt *sql.Stmt, scan func(scanner) (T, error), args ...any) ([]T, error) {
	ctx, done, err := db.ForRead(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return collect(ctx, stmt, scan, args...)
}

func collect[T any](ctx context.Context, stmt *sql.Stmt, scan func(scanner) (T, error), args ...any) (all []T, err error) {
	err = each(ctx, stmt, func(row scanner) error {
		one, err := scan(row)
		all = append(all, one)
		return err
	}, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

func each(ctx context.Context, stmt *sql.Stmt, visit func(scanner) error, args ...any) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := visit(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func exec(tx *sql.Tx, stmt *sql.Stmt, args ...any) (affected int64, err error) {
	result, err := tx.StmtContext(context.Background(), stmt).ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

func scanRecord(row scanner) (r keystore.Record, err error) {
	var createdAt, updatedAt database.Time
	err = row.Scan(&r.ID, &r.ProviderID, &r.Name, &r.Sealed, &r.CreatedBy, &createdAt, &updatedAt)
	r.CreatedAt, r.UpdatedAt = createdAt.Time, updatedAt.Time
	return r, err
}

// explain says what was tried and turns a database's error into one of
// keystore's, or into one that says what to do.
func explain(verb string, err error) error {
	switch err = database.Explain(err); {
	case err == nil, isOutcome(err):
		return err
	case errors.Is(err, keystore.ErrLockTimeout):
		return fmt.Errorf("%s: %w", verb, err)
	case errors.Is(err, database.ErrBusy):
		return fmt.Errorf("%s: %w", verb, errors.Join(keystore.ErrLockTimeout, err))
	case errors.Is(err, database.ErrTimeout):
		return fmt.Errorf("%s: %w", verb, errors.Join(keystore.ErrTimeout, err))
	}
	return fmt.Errorf("%s: %w", verb, err)
}
