// Package postgres is the key store on PostgreSQL. Adds to one pool queue up
// behind the advisory lock of the real server, so that both can share a
// database. Its callers know it as a keystore.Store. The schema and the
// connections belong to package database.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Store implements keystore.Store.
type Store struct {
	pool  *pgxpool.Pool
	now   func() time.Time
	locks locks
	lists lists
	// writes has a slot for each connection that writes may hold at once. The
	// others are for reads: whatever writes wait for, reads find a connection.
	writes    chan struct{}
	workspace *statements
	org       *statements
}

var _ keystore.Store = (*Store)(nil)

// statements are the queries on one scope's table. pgx prepares each once per
// connection.
type statements struct {
	list, version                    string
	visit, pool, sealed              string
	providerIDs                      string
	add, replace, remove, removePool string
	lockPrefix                       string
}

// New returns a store on a migrated database, which it does not close. now is
// the clock that stamps keys.
func New(db *database.DB, now func() time.Time) *Store {
	return &Store{
		pool: db.Postgres, now: now, lists: lists{entries: map[keystore.Owner]list{}},
		writes:    make(chan struct{}, max(1, db.Postgres.Config().MaxConns*2/3)),
		workspace: queries("workspace", "byok:"),
		// The IDs of both scopes are arbitrary text; their locks must not meet.
		org: queries("organization", "byok:organization:"),
	}
}

func queries(owner, lockPrefix string) *statements {
	inline := "CASE WHEN octet_length(encrypted_api_key) <= " + strconv.Itoa(keystore.InlineLimit) + " THEN encrypted_api_key ELSE '' END"
	on := strings.NewReplacer("{owner}", owner, "{inline}", inline,
		"{of owner}", "FROM "+owner+"_byok_keys WHERE "+owner+"_id = $1 ORDER BY provider_id, created_at, id").Replace
	return &statements{
		lockPrefix:  lockPrefix,
		list:        on("SELECT id, provider_id, name, {inline}, created_by, created_at, updated_at {of owner}"),
		version:     on(versionOf),
		visit:       on("SELECT id, provider_id, name, encrypted_api_key, created_by, created_at, updated_at {of owner}"),
		sealed:      on("SELECT encrypted_api_key FROM {owner}_byok_keys WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2"),
		pool:        on("SELECT id, {inline} FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2 ORDER BY created_at, id"),
		providerIDs: on("SELECT DISTINCT provider_id FROM {owner}_byok_keys WHERE {owner}_id = $1 ORDER BY provider_id"),
		// It inserts nothing into a full pool.
		add: on(`INSERT INTO {owner}_byok_keys ({owner}_id, provider_id, id, name, encrypted_api_key, created_by, created_at, updated_at)
			SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::timestamp, $7::timestamp
			WHERE (SELECT count(*) FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2) < $8::bigint`),
		replace: on(`UPDATE {owner}_byok_keys SET encrypted_api_key = $4, updated_at = $5,
			name = CASE WHEN $6::boolean THEN name ELSE $7::text END
			WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2 RETURNING id, provider_id, name, '', created_by, created_at, updated_at`),
		remove:     on("DELETE FROM {owner}_byok_keys WHERE id = $3 AND {owner}_id = $1 AND provider_id = $2"),
		removePool: on("DELETE FROM {owner}_byok_keys WHERE {owner}_id = $1 AND provider_id = $2 RETURNING id"),
	}
}

// Visit implements keystore.Store.
func (s *Store) Visit(ctx context.Context, owner keystore.Owner, visit func(keystore.Record) error) error {
	if !keystore.Storable(owner.ID) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	rows, err := s.pool.Query(ctx, s.on(owner.Scope).visit, owner.ID)
	if err != nil {
		return explain("list keys", err)
	}
	defer rows.Close()
	for rows.Next() {
		record, err := scanRecord(rows)
		if err == nil {
			err = visit(record)
		}
		if err != nil {
			return explain("list keys", err)
		}
	}
	return explain("list keys", rows.Err())
}

// Sealed implements keystore.Store.
func (s *Store) Sealed(ctx context.Context, pool keystore.Pool, id string) (sealed string, err error) {
	if !pool.Storable(id) {
		return "", keystore.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	err = s.pool.QueryRow(ctx, s.on(pool.Scope).sealed, pool.ID, pool.ProviderID, id).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		err = keystore.ErrNotFound
	}
	return sealed, explain("read key", err)
}

// Pool implements keystore.Store.
func (s *Store) Pool(ctx context.Context, pool keystore.Pool) ([]keystore.SealedKey, error) {
	if !pool.Storable() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	rows, _ := s.pool.Query(ctx, s.on(pool.Scope).pool, pool.ID, pool.ProviderID) // CollectRows returns its error
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key keystore.SealedKey, err error) {
		err = row.Scan(&key.ID, &key.Sealed)
		return key, err
	})
	return keys, explain("read pool", err)
}

// Add implements keystore.Store. It takes two round trips: one up to the lock,
// and one, when the pool is this add's alone, that stamps, counts, stores and
// commits.
func (s *Store) Add(ctx context.Context, pool keystore.Pool, key keystore.NewKey, limit int) (keystore.Record, error) {
	if !pool.Storable(key.ID, keystore.Text(key.Name), key.Sealed, key.CreatedBy) {
		return keystore.Record{}, fmt.Errorf("add key: %w", keystore.ErrText)
	}
	record := key.Record(pool)
	err := s.locked(ctx, pool, func(ctx context.Context, conn *pgx.Conn) error {
		at := database.At(s.now()).Time
		record.CreatedAt, record.UpdatedAt = at, at
		batch := &pgx.Batch{}
		batch.Queue(s.on(pool.Scope).add, pool.ID, pool.ProviderID, record.ID, record.Name, record.Sealed, record.CreatedBy, at, limit)
		batch.Queue("COMMIT")
		results := conn.SendBatch(ctx, batch)
		tag, err := results.Exec()
		err = errors.Join(err, results.Close())
		if err == nil && tag.RowsAffected() == 0 {
			return keystore.ErrFull
		}
		return err
	})
	if err != nil {
		return keystore.Record{}, explain("add key", err)
	}
	return record, nil
}

// locked begins a transaction, takes the pool's lock and calls act, which
// commits.
func (s *Store) locked(ctx context.Context, pool keystore.Pool, act func(context.Context, *pgx.Conn) error) error {
	name := s.on(pool.Scope).lockPrefix + pool.ID + ":" + pool.ProviderID
	deadline := time.Now().Add(keystore.LockWait)
	conn, release, err := s.connect(ctx, name, deadline)
	if err != nil {
		return err
	}
	// The pool closes a connection that comes back with a transaction open.
	defer release()
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()

	// READ COMMITTED whatever the database's default is: the count has to see
	// what was committed while this add waited.
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	batch.Queue("SELECT set_config('lock_timeout', $1, true)", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10))
	batch.Queue("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		s.rollback(ctx, conn)
		return err
	}
	// The last step no longer follows its caller's context, but for its deadline:
	// whether a cancelled add is stored would be anybody's guess.
	end, _ := ctx.Deadline()
	ctx, cancel = context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	err = act(ctx, conn.Conn())
	if err != nil && conn.Conn().PgConn().TxStatus() != 'I' {
		s.rollback(ctx, conn)
	}
	return err
}

func (s *Store) rollback(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK") // where it fails, the pool closes the connection
}

// connect returns a connection for a write, and the function that gives it
// back. Writes of this process under one name take turns, so that a pool whose
// rows another session has locked holds one connection at most.
func (s *Store) connect(ctx context.Context, name string, deadline time.Time) (*pgxpool.Conn, func(), error) {
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	late := func() error {
		if errors.Is(waiting.Err(), context.DeadlineExceeded) { // the caller's deadline, too: nothing has begun
			return keystore.ErrLockTimeout
		}
		return waiting.Err()
	}
	unlock, err := s.locks.take(waiting, name)
	if err != nil {
		return nil, nil, late()
	}
	select {
	case s.writes <- struct{}{}:
	case <-waiting.Done():
		unlock()
		return nil, nil, late()
	}
	conn, err := s.pool.Acquire(waiting)
	if err != nil {
		<-s.writes
		unlock()
		if waiting.Err() != nil {
			err = late()
		}
		return nil, nil, err
	}
	return conn, func() { conn.Release(); <-s.writes; unlock() }, nil
}

// change runs a write that consists of one statement.
func (s *Store) change(ctx context.Context, pool keystore.Pool, run func(context.Context, *pgxpool.Conn) error) error {
	// No add waits behind a change: adds queue up for the pool's advisory lock,
	// which a change does not take.
	name := "change:" + s.on(pool.Scope).lockPrefix + pool.ID + ":" + pool.ProviderID
	conn, release, err := s.connect(ctx, name, time.Now().Add(keystore.LockWait))
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	return run(ctx, conn)
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
	var record keystore.Record
	err := s.change(ctx, pool, func(ctx context.Context, conn *pgxpool.Conn) (err error) {
		rows, _ := conn.Query(ctx, s.on(pool.Scope).replace, pool.ID, pool.ProviderID, id, with.Sealed,
			database.At(s.now()).Time, with.Name == nil, keystore.Optional(name)) // CollectExactlyOneRow returns its error
		record, err = pgx.CollectExactlyOneRow(rows, scanRecord)
		record.Sealed = with.Sealed
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return keystore.Record{}, keystore.ErrNotFound
	}
	if err != nil {
		return keystore.Record{}, explain("replace key", err)
	}
	return record, nil
}

// Delete implements keystore.Store.
func (s *Store) Delete(ctx context.Context, pool keystore.Pool, id string) error {
	if !pool.Storable(id) {
		return keystore.ErrNotFound
	}
	err := s.change(ctx, pool, func(ctx context.Context, conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, s.on(pool.Scope).remove, pool.ID, pool.ProviderID, id)
		if err == nil && tag.RowsAffected() == 0 {
			return keystore.ErrNotFound
		}
		return err
	})
	return explain("delete key", err)
}

// DeletePool implements keystore.Store.
func (s *Store) DeletePool(ctx context.Context, pool keystore.Pool) ([]string, error) {
	if !pool.Storable() {
		return nil, nil
	}
	var ids []string
	err := s.change(ctx, pool, func(ctx context.Context, conn *pgxpool.Conn) (err error) {
		rows, _ := conn.Query(ctx, s.on(pool.Scope).removePool, pool.ID, pool.ProviderID) // CollectRows returns its error
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids, explain("delete pool", err)
}

// ProviderIDs implements keystore.Store.
func (s *Store) ProviderIDs(ctx context.Context, owner keystore.Owner) ([]string, error) {
	if !keystore.Storable(owner.ID) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	rows, _ := s.pool.Query(ctx, s.on(owner.Scope).providerIDs, owner.ID) // CollectRows returns its error
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ids, explain("list provider IDs", err)
}

func (s *Store) on(scope keystore.Scope) *statements {
	if scope == keystore.Organization {
		return s.org
	}
	return s.workspace
}

func scanRecord(row pgx.CollectableRow) (r keystore.Record, err error) {
	err = row.Scan(&r.ID, &r.ProviderID, &r.Name, &r.Sealed, &r.CreatedBy, &r.CreatedAt, &r.UpdatedAt)
	return r, err
}

// explain says what was tried and turns a database's error into one of
// keystore's, or into one that says what to do.
func explain(verb string, err error) error {
	switch err = database.Explain(err); {
	case err == nil, errors.Is(err, keystore.ErrFull), errors.Is(err, keystore.ErrNotFound):
		return err
	case errors.Is(err, database.ErrBusy):
		return fmt.Errorf("%s: %w", verb, errors.Join(keystore.ErrLockTimeout, err))
	case errors.Is(err, database.ErrTimeout):
		return fmt.Errorf("%s: %w", verb, errors.Join(keystore.ErrTimeout, err))
	}
	return fmt.Errorf("%s: %w", verb, err)
}
