// Package encryption keeps a database and the ENCRYPTION_KEY that its stored
// keys are sealed with together: the canary that refuses a wrong key, and what
// `byok-server keys` does with every stored key, whoever owns it. It holds the
// queries for that. The server's start and its health check call it; requests
// do not pass through it.
package encryption

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
)

// canary is the plaintext of every canary.
const canary = "byok-server canary"

// canaryTable holds one canary for each ENCRYPTION_KEY that stored keys may be
// sealed with.
const canaryTable = "byok_server_canary"

// lockName is the PostgreSQL advisory lock under which canaries change.
const lockName = "byok-server:encryption-key"

// samples is how many keys of each table, the oldest, decide whether a key fits a
// database that has no canary yet.
const samples = 500

// The errors that callers tell apart.
var (
	// ErrWrongKey reports an ENCRYPTION_KEY other than the database's.
	ErrWrongKey = errors.New("ENCRYPTION_KEY is not the key that this database is encrypted with: " +
		"set it to what it was when the keys were stored (and DECRYPTION_KEYS to earlier keys that `byok-server keys rekey` has not retired). " +
		"Where that key is lost for good, `byok-server keys rekey --accept-loss` gives the stored keys up")
	// ErrRetired reports an ENCRYPTION_KEY that the database has been moved off.
	ErrRetired = errors.New("ENCRYPTION_KEY is no longer in use: `byok-server keys rekey` has moved this database to another key; restart this server with that one")
)

// Vault is a database and the keys that open it.
type Vault struct {
	db     *database.DB
	sealer *seal.Sealer
	now    func() time.Time

	mu      sync.Mutex
	checked time.Time // when MaySeal last asked the database
}

// New returns a Vault on a migrated database, which it does not close.
func New(db *database.DB, sealer *seal.Sealer, now func() time.Time) *Vault {
	return &Vault{db: db, sealer: sealer, now: now}
}

// HasOldKeys reports whether DECRYPTION_KEYS gives any key.
func (v *Vault) HasOldKeys() bool { return v.sealer.HasOthers() }

// Claim makes sure that the key fits the database: it opens every canary, and
// where none is of the key that seals from now on, it leaves one. A database
// without any, from before canaries, is judged by the keys that it holds.
// ErrWrongKey reports a key that does not fit. Instances that start at once
// decide one after the other.
func (v *Vault) Claim(ctx context.Context) error {
	return v.locked(ctx, func(tx *sql.Tx) error {
		hasCurrent, count, err := v.readCanaries(ctx, tx)
		if err == nil && count == 0 {
			err = v.checkSamples(ctx, tx)
		}
		if err != nil || hasCurrent {
			return err
		}
		return v.leaveCanary(ctx, tx)
	})
}

// Check is Claim for a server that runs: it changes nothing. ErrRetired reports
// that the key has been replaced meanwhile.
func (v *Vault) Check(ctx context.Context) error {
	hasCurrent, _, err := v.readCanaries(ctx, v.db.Read)
	if err == nil && !hasCurrent {
		err = ErrRetired
	}
	return err
}

// A check of the canaries holds for checkAge. So a server stores nothing under a
// retired key once retireWait has passed, with time to spare for a slow write.
const (
	checkAge   = time.Second
	retireWait = 3 * time.Second
	// checkTimeout is how long the database has to respond.
	checkTimeout = 5 * time.Second
)

// MaySeal is Check before a write, but asks the database once in a while only.
func (v *Vault) MaySeal(ctx context.Context) error {
	now := time.Now()
	v.mu.Lock()
	fresh := now.Sub(v.checked) < checkAge
	v.mu.Unlock()
	if fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := v.Check(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	v.checked = now
	v.mu.Unlock()
	return nil
}

// IsInUse reports whether a database holds keys or a canary, so that another
// ENCRYPTION_KEY than before would not do. The schema may be of any age.
func IsInUse(ctx context.Context, db *database.DB) (bool, error) {
	names := []string{canaryTable}
	for _, t := range tables {
		names = append(names, t.name)
	}
	for _, table := range names {
		exists, err := db.HasTable(ctx, table)
		if err != nil {
			return false, err
		}
		if !exists {
			continue
		}
		var inUse bool
		if err := db.Read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table+")").Scan(&inUse); err != nil || inUse { //nolint:gosec // one of our own tables
			return inUse, err
		}
	}
	return false, nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readCanaries opens all canaries; one that no key opens is ErrWrongKey.
func (v *Vault) readCanaries(ctx context.Context, q querier) (hasCurrent bool, count int, err error) {
	rows, err := q.QueryContext(ctx, "SELECT sealed FROM "+canaryTable)
	if err != nil {
		return false, 0, fmt.Errorf("read the canary: %w", err)
	}
	defer rows.Close()
	for ; rows.Next(); count++ {
		var sealed string
		if err := rows.Scan(&sealed); err != nil {
			return false, 0, fmt.Errorf("read the canary: %w", err)
		}
		_, isCurrent, err := v.sealer.OpenWith(sealed)
		if err != nil {
			return false, 0, ErrWrongKey
		}
		hasCurrent = hasCurrent || isCurrent
	}
	return hasCurrent, count, rows.Err()
}

// checkSamples refuses a key that opens fewer than half of the keys that are
// stored. A few that do not open may have been stored under a wrong key by
// mistake.
func (v *Vault) checkSamples(ctx context.Context, tx *sql.Tx) error {
	opened, foreign := 0, 0
	for _, t := range tables {
		rows, err := tx.QueryContext(ctx, t.query("SELECT encrypted_api_key FROM {table} ORDER BY created_at LIMIT $1"), samples)
		if err != nil {
			return fmt.Errorf("read stored keys: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var sealed string
			if err := rows.Scan(&sealed); err != nil {
				return fmt.Errorf("read stored keys: %w", err)
			}
			switch _, err := v.sealer.Open(sealed); {
			case err == nil:
				opened++
			case errors.Is(err, seal.ErrForeign):
				foreign++
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("read stored keys: %w", err)
		}
	}
	if foreign > opened {
		return fmt.Errorf("%w (it opens %d of %d stored keys)", ErrWrongKey, opened, opened+foreign)
	}
	return nil
}

func (v *Vault) leaveCanary(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO "+canaryTable+" (sealed, created_at) VALUES ($1, $2)", v.sealer.Seal(canary), database.At(v.now()))
	if err != nil {
		return fmt.Errorf("store the canary: %w", err)
	}
	return nil
}

// locked runs do in a transaction that no other one of this kind overlaps.
func (v *Vault) locked(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := v.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", database.Explain(err))
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if v.db.Dialect == database.Postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lockName); err != nil {
			return fmt.Errorf("wait for other instances: %w", err)
		}
	}
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", database.Explain(err))
	}
	return nil
}
