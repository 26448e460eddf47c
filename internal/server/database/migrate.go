package database

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations
var migrationFiles embed.FS

// Migration is one step of the schema.
type Migration struct {
	Version int
	Name    string
	// AppliedAt is zero while the step is pending.
	AppliedAt time.Time
	sql       string
}

// migrateLock is the PostgreSQL advisory lock that lets one instance migrate
// at a time.
const migrateLock = "byok-server:migrate"

// Migrate applies every pending migration in one transaction, so that a failed
// one leaves the schema as it was, and returns those it applied. Instances that
// start at once wait for each other. A schema newer than this binary is an
// error.
func (db *DB) Migrate(ctx context.Context) ([]Migration, error) {
	return db.MigrateTo(ctx, -1)
}

// MigrateTo is Migrate up to a version and no further; -1 is the newest. Tests
// put data into an old schema with it.
func (db *DB) MigrateTo(ctx context.Context, last int) (applied []Migration, err error) {
	if err := db.CheckTables(ctx); err != nil {
		return nil, err
	}
	err = db.migrating(ctx, func(tx *sql.Tx) error {
		applied, err = db.apply(ctx, tx, last)
		return err
	})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

// migrating runs do in a transaction that no other one of this kind overlaps.
func (db *DB) migrating(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing

	if db.Dialect == Postgres {
		limit := strconv.FormatInt(migrationTimeout.Milliseconds(), 10)
		if _, err := tx.ExecContext(ctx, "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)", limit); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", migrateLock); err != nil {
			return fmt.Errorf("migrate: wait for other instances: %w", err)
		}
	}
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// apply applies the pending migrations up to last in a transaction.
func (db *DB) apply(ctx context.Context, tx *sql.Tx, last int) (applied []Migration, err error) {
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS byok_server_migrations (
		version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at `+db.timeType()+` NOT NULL)`); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	steps, err := db.status(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		if !step.AppliedAt.IsZero() || (last >= 0 && step.Version > last) {
			continue
		}
		if _, err := tx.ExecContext(ctx, step.sql); err != nil {
			return nil, fmt.Errorf("migration %04d_%s: %w", step.Version, step.Name, err)
		}
		step.AppliedAt = At(time.Now()).Time
		if _, err := tx.ExecContext(ctx, "INSERT INTO byok_server_migrations (version, name, applied_at) VALUES ($1, $2, $3)",
			step.Version, step.Name, At(step.AppliedAt)); err != nil {
			return nil, fmt.Errorf("migration %04d_%s: %w", step.Version, step.Name, err)
		}
		applied = append(applied, step)
	}
	return applied, nil
}

// MigrationStatus returns every migration this binary knows, applied or
// pending, and changes nothing.
func (db *DB) MigrationStatus(ctx context.Context) ([]Migration, error) {
	if db.layout == foreign {
		return nil, ErrNotAdopted
	}
	exists, err := db.HasTable(ctx, "byok_server_migrations")
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	if !exists {
		return db.migrations()
	}
	return db.status(ctx, db.Read)
}

// HasTable reports whether the schema has a table.
func (db *DB) HasTable(ctx context.Context, name string) (bool, error) {
	query := "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1"
	if db.Dialect == Postgres {
		query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = $1"
	}
	var tables int
	err := db.Read.QueryRowContext(ctx, query, name).Scan(&tables)
	return tables > 0, Explain(err)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (db *DB) status(ctx context.Context, q querier) ([]Migration, error) {
	steps, err := db.migrations()
	if err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, "SELECT version, applied_at FROM byok_server_migrations ORDER BY version")
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var version int
		var at Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, fmt.Errorf("migration status: %w", err)
		}
		if version < 1 {
			return nil, fmt.Errorf("the table byok_server_migrations has a row with version %d, which no byok-server wrote: restore the database from a backup, or delete the row if you know where it comes from", version)
		}
		if version > len(steps) {
			return nil, fmt.Errorf("the database has schema version %d, this byok-server knows %d: run the newer byok-server that migrated it", version, len(steps))
		}
		steps[version-1].AppliedAt = at.Time
	}
	return steps, rows.Err()
}

// migrations reads the embedded steps: those of the dialect or, beside Sim's
// tables, those of the own schema. File names begin with
// their version; versions count from 1 without a gap.
func (db *DB) migrations() ([]Migration, error) {
	dir := path.Join("migrations", string(db.Dialect))
	if db.layout == adopted {
		dir = "migrations/adopted"
	}
	entries, err := fs.ReadDir(migrationFiles, dir)
	if err != nil {
		return nil, err
	}
	steps := make([]Migration, 0, len(entries))
	for i, entry := range entries {
		number, name, _ := strings.Cut(strings.TrimSuffix(entry.Name(), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration file %s is out of sequence", entry.Name())
		}
		text, err := fs.ReadFile(migrationFiles, path.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		steps = append(steps, Migration{Version: version, Name: name, sql: string(text)})
	}
	return steps, nil
}

func (db *DB) timeType() string {
	if db.Dialect == Postgres {
		return "TIMESTAMP"
	}
	return "TEXT"
}
