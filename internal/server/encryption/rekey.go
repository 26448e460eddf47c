package encryption

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// A batch is what one transaction of a rekey changes. It is small, so that the
// writes of a running server wait for milliseconds only.
const (
	batchKeys  = 100
	batchBytes = 1 << 20
)

// busyRetries is how often a batch is tried again when other writers keep the
// database locked.
const busyRetries = 12

// A key whose row another transaction holds is tried again after lockPause, and
// given up after lockPatience.
const (
	lockPause    = 100 * time.Millisecond
	lockPatience = time.Minute
)

// ErrNotStarted reports a rekey before any server has taken the new key.
var ErrNotStarted = errors.New("no server has started with this ENCRYPTION_KEY yet, and one that runs with the old key alone cannot read what is encrypted anew: " +
	"restart every server with the new ENCRYPTION_KEY and the old key in DECRYPTION_KEYS first; where no server runs, add --offline")

// ErrShared reports a rekey of a database of Sim.
var ErrShared = errors.New("the tables are Sim's, which has one ENCRYPTION_KEY for these keys and for what it stores elsewhere: change the key with Sim's own means, then restart byok-server with it")

// RekeyOptions say how far a rekey may go.
type RekeyOptions struct {
	// Offline says that no server runs that has the old key alone.
	Offline bool
	// AcceptLoss gives up the keys that neither ENCRYPTION_KEY nor
	// DECRYPTION_KEYS opens.
	AcceptLoss bool
	// Progress, if set, is called after each batch with the number of keys that
	// have been looked at.
	Progress func(done int)
}

// RekeyResult is what a rekey did.
type RekeyResult struct {
	// Resealed keys were sealed with an old key and are now sealed with the
	// current one.
	Resealed int
	// Unreadable keys are opened by no key that was given; they were left as
	// they are.
	Unreadable int
}

// Rekey seals every key that one of DECRYPTION_KEYS opens with ENCRYPTION_KEY,
// then retires the old keys: from then on a server needs only ENCRYPTION_KEY.
// Servers that have both keys serve and store keys meanwhile. Interrupted at
// any point, it goes on where it was when it is called again.
func (v *Vault) Rekey(ctx context.Context, o RekeyOptions) (RekeyResult, error) {
	var result RekeyResult
	if v.db.IsAdopted() {
		return result, ErrShared
	}
	if err := v.begin(ctx, o); err != nil {
		return result, err
	}
	retired, progress := false, time.Now()
	for {
		p, err := v.pass(ctx, o.Progress)
		result.Resealed += p.resealed
		result.Unreadable = p.unreadable
		switch {
		case err != nil:
			return result, err
		case p.resealed > 0:
			progress = time.Now()
		case p.old > 0 && time.Since(progress) > lockPatience:
			return result, fmt.Errorf("%d keys are locked by other transactions; end those and run this again", p.old)
		case p.old > 0:
			if err := sleep(ctx, lockPause); err != nil {
				return result, err
			}
		case retired:
			return result, nil
		default:
			if err := v.retire(ctx); err != nil {
				return result, err
			}
			retired = true
			if o.Offline {
				continue
			}
			// One more pass follows, for what a server that seals with the old key
			// stores until it notices.
			if err := sleep(ctx, retireWait); err != nil {
				return result, err
			}
		}
	}
}

// begin checks that all keys in use are at hand and leaves a canary of the new
// one, so that no server starts without it from now on.
func (v *Vault) begin(ctx context.Context, o RekeyOptions) error {
	return v.locked(ctx, func(tx *sql.Tx) error {
		hasCurrent, count, err := v.readCanaries(ctx, tx)
		if err == nil && count == 0 {
			err = v.checkSamples(ctx, tx)
		}
		switch {
		case errors.Is(err, ErrWrongKey) && o.AcceptLoss:
			_, err = tx.ExecContext(ctx, "DELETE FROM "+canaryTable)
			hasCurrent = false
		case err == nil && count > 0 && !hasCurrent && !o.Offline && !o.AcceptLoss:
			return ErrNotStarted
		}
		if err != nil || hasCurrent {
			return err
		}
		return v.leaveCanary(ctx, tx)
	})
}

// retire leaves a canary of the current key only.
func (v *Vault) retire(ctx context.Context) error {
	return v.locked(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+canaryTable); err != nil {
			return fmt.Errorf("retire the old key: %w", err)
		}
		return v.leaveCanary(ctx, tx)
	})
}

// pass is what one look at all keys found.
type pass struct {
	old        int // sealed with an old key at first sight
	resealed   int
	unreadable int
}

// pass goes through all keys once.
func (v *Vault) pass(ctx context.Context, progress func(int)) (p pass, err error) {
	done := 0
	for _, t := range tables {
		for after := (position{}); ; {
			b, err := v.read(ctx, t, after)
			if err != nil {
				return p, err
			}
			if b.size == 0 {
				break
			}
			began := time.Now()
			resealed, err := v.store(ctx, t, b.changes)
			p.old, p.resealed, p.unreadable = p.old+len(b.changes), p.resealed+resealed, p.unreadable+b.unreadable
			if err != nil {
				return p, err
			}
			after, done = b.last, done+b.size
			if progress != nil {
				progress(done)
			}
			if len(b.changes) > 0 {
				// The other writers get as much time as this batch took.
				if err := sleep(ctx, time.Since(began)); err != nil {
					return p, err
				}
			}
		}
	}
	return p, nil
}

// position identifies a key in its table; batches go through a table in the
// order of positions.
type position struct{ owner, provider, id string }

// batch is some keys of a table.
type batch struct {
	size       int
	last       position
	changes    []change
	unreadable int
}

// change is one key to be sealed anew.
type change struct {
	position
	before, after string
}

// read reads the keys after a position, as many as a batch may hold, and seals those
// anew that are sealed with an old key.
func (v *Vault) read(ctx context.Context, t table, after position) (b batch, err error) {
	rows, err := v.db.Read.QueryContext(ctx, t.query(`SELECT {owner}, {provider}, {id}, encrypted_api_key FROM {table}
		WHERE ({owner}, {provider}, {id}) > ($1, $2, $3) ORDER BY {owner}, {provider}, {id} LIMIT $4`), after.owner, after.provider, after.id, batchKeys)
	if err != nil {
		return b, fmt.Errorf("read stored keys: %w", database.Explain(err))
	}
	defer rows.Close()
	for bytes := 0; bytes < batchBytes && rows.Next(); b.size++ {
		var sealed string
		if err := rows.Scan(&b.last.owner, &b.last.provider, &b.last.id, &sealed); err != nil {
			return b, fmt.Errorf("read stored keys: %w", err)
		}
		bytes += len(sealed)
		switch plaintext, isCurrent, err := v.sealer.OpenWith(sealed); {
		case err != nil:
			b.unreadable++
		case !isCurrent:
			b.changes = append(b.changes, change{b.last, sealed, v.sealer.Seal(plaintext)})
		}
	}
	return b, rows.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// store writes a batch, each key only where it still is what was read: one that
// was replaced or deleted meanwhile stays so. A key whose row another
// transaction holds is left for the next pass, so that no lock is waited for
// while others are held.
func (v *Vault) store(ctx context.Context, t table, changes []change) (changed int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	const found = " WHERE {owner} = $1 AND {provider} = $2 AND {id} = $3 AND encrypted_api_key = $4"
	query := t.query("UPDATE {table} SET encrypted_api_key = $5" + found)
	if v.db.Dialect == database.Postgres {
		query = t.query("UPDATE {table} SET encrypted_api_key = $5 WHERE ctid = (SELECT ctid FROM {table}" + found + " FOR UPDATE SKIP LOCKED)")
	}
	for attempt := 1; ; attempt++ {
		changed, err = v.tryStore(ctx, query, changes)
		if !errors.Is(err, database.ErrBusy) || attempt == busyRetries {
			return changed, err
		}
	}
}

func (v *Vault) tryStore(ctx context.Context, query string, changes []change) (changed int, err error) {
	tx, err := v.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("encrypt keys anew: %w", database.Explain(err))
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	for _, c := range changes {
		result, err := tx.ExecContext(ctx, query, c.owner, c.provider, c.id, c.before, c.after)
		if err != nil {
			return 0, fmt.Errorf("encrypt the %s key %s of %s anew: %w", c.provider, c.id, c.owner, database.Explain(err))
		}
		affected, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		changed += int(affected)
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("encrypt keys anew: %w", database.Explain(err))
	}
	return changed, nil
}
