// Package database opens the store's database and brings its schema up to
// date. It knows where data lives, not what it means: keystore/sqlite,
// keystore/postgres and access hold the queries. Those of access are written
// once for both dialects, with $1 placeholders and Time.
package database

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Dialect is the kind of database.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// DB is an open database. On SQLite, Write is a single connection, so writers
// queue in the process instead of failing as busy, and Read serves readers
// beside it; on PostgreSQL both are one pool.
type DB struct {
	Dialect Dialect
	Read    *sql.DB
	Write   *sql.DB
	// Postgres is what keystore/postgres uses; nil on SQLite.
	Postgres *pgxpool.Pool
	// Path is the SQLite file; empty for memory and PostgreSQL.
	Path string

	// layout says whose tables schema has, which is empty on SQLite.
	layout layout
	schema string
	// opened is the file at Path when it was opened.
	opened os.FileInfo
	// watch tells when a SQLite database changes; nil on PostgreSQL.
	watch *watch
	// readers has a slot for each connection of Read on SQLite.
	readers chan struct{}
}

// Deadline bounds every operation on the database: the wait for a connection,
// for locks and for the statement itself.
const Deadline = 10 * time.Second

// LockWait is how long a statement waits for the locks of other sessions, and
// a SQLite writer for another process.
const LockWait = 5 * time.Second

// migrationTimeout replaces Deadline for a migration, which may rewrite tables.
const migrationTimeout = 10 * time.Minute

// sqliteReaders is how many reads run side by side.
const sqliteReaders = 8

// The connections that one server opens to PostgreSQL: 20, so that four servers
// fit under PostgreSQL's default limit of 100. pool_max_conns in the URL sets
// another number for the key store.
const (
	accessConnections   = 8
	keystoreConnections = 12
)

// Open opens a database by its target: "sqlite:PATH", "sqlite::memory:" or
// "postgres://USER:PASSWORD@HOST:PORT/NAME". It reaches the database but leaves
// the schema alone: call Migrate. Errors never contain a password.
func Open(ctx context.Context, target string) (*DB, error) {
	if err := Check(target); err != nil {
		return nil, err
	}
	path, isSQLite := strings.CutPrefix(target, "sqlite:")
	switch {
	case isSQLite && path == ":memory:":
		return openMemory(ctx)
	case isSQLite:
		return openFile(ctx, path)
	}
	return openPostgres(ctx, target)
}

// Check reports what is wrong with a target that can be told without opening
// the database.
func Check(target string) error {
	path, isSQLite := strings.CutPrefix(target, "sqlite:")
	switch {
	case isSQLite && path == ":memory:":
		return nil
	case isSQLite && path == "":
		return errors.New("database sqlite: has no path; write sqlite:byok-server.db")
	case isSQLite:
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return fmt.Errorf("database sqlite:%s: the folder %s does not exist; create it first", path, filepath.Dir(path))
		}
		return nil
	case strings.HasPrefix(target, "postgres://"), strings.HasPrefix(target, "postgresql://"):
		if _, err := pgxpool.ParseConfig(target); err != nil {
			// The parser's message can quote the target, password included.
			return errors.New("database postgres: the URL is malformed; write postgres://USER:PASSWORD@HOST:PORT/NAME")
		}
		return nil
	}
	return errors.New("database must be sqlite:PATH, sqlite::memory: or postgres://USER:PASSWORD@HOST:PORT/NAME")
}

// ForRead returns the context of one read, which ends with Deadline at the
// latest, and what is to be called when its rows have been read.
//
// On SQLite the wait for a connection happens here, and the context has no
// end: a read waits for nothing else but a lock, for LockWait at most, and the
// driver takes two goroutines to watch a context.
func (db *DB) ForRead(ctx context.Context) (context.Context, func(), error) {
	if db.Dialect == Postgres {
		ctx, cancel := context.WithTimeout(ctx, Deadline)
		return ctx, cancel, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	select {
	case db.readers <- struct{}{}:
	default:
		waiting, cancel := context.WithTimeout(ctx, Deadline)
		defer cancel()
		select {
		case db.readers <- struct{}{}:
		case <-waiting.Done():
			return nil, nil, fmt.Errorf("wait for a connection: %w", waiting.Err())
		}
	}
	return context.WithoutCancel(ctx), func() { <-db.readers }, nil
}

// Present returns ErrVanished where the SQLite file was removed or replaced
// since it was opened.
func (db *DB) Present() error {
	if db.opened == nil {
		return nil
	}
	switch now, err := os.Stat(db.Path); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(now, db.opened):
		return fmt.Errorf("database sqlite:%s: %w", db.Path, ErrVanished)
	case err != nil:
		return fmt.Errorf("database sqlite:%s: %w", db.Path, errors.Join(ErrUnreachable, err))
	}
	return nil
}

// Close closes the database.
func (db *DB) Close() error {
	if db.Postgres != nil {
		db.Postgres.Close()
	}
	if db.Read == db.Write {
		return db.Write.Close()
	}
	errs := []error{db.Read.Close(), db.Write.Close()}
	if db.watch != nil {
		errs = append(errs, db.watch.close())
	}
	return errors.Join(errs...)
}

// Ping reports whether the database lets the tables of requests be read, on each
// pool of connections that serves requests. It waits for a connection, and for the
// locks of other sessions, like every request.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.Present(); err != nil {
		return err
	}
	exists := make([]string, len(usedTables))
	for i, table := range usedTables {
		exists[i] = `EXISTS (SELECT 1 FROM "` + table + `")`
	}
	query := "SELECT " + strings.Join(exists, " AND ")
	var all bool
	if err := db.Read.QueryRowContext(ctx, query).Scan(&all); err != nil || db.Postgres == nil {
		return Explain(err)
	}
	return Explain(db.Postgres.QueryRow(ctx, query).Scan(&all))
}

// openMemory opens a database that lives as long as one of its connections:
// they share it by its name, and wait for each other by table.
func openMemory(ctx context.Context) (*DB, error) {
	db, err := openSQLite(ctx, "file:byok-"+rand.Text(), url.Values{"mode": {"memory"}, "cache": {"shared"}}, "journal_mode(MEMORY)")
	if err != nil {
		return nil, fmt.Errorf("database sqlite::memory:: %w", Explain(err))
	}
	return db, nil
}

func openFile(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// The file holds password hashes, sessions and sealed keys. SQLite gives its
	// -wal and -shm files the same mode.
	file, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("database sqlite:%s: %w", path, errors.Join(ErrReadOnly, err))
	case err != nil:
		return nil, fmt.Errorf("database sqlite:%s: %w", path, err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("database sqlite:%s: %w", path, err)
	}
	db, err := openSQLite(ctx, "file:"+(&url.URL{Path: abs}).EscapedPath(), url.Values{}, "journal_mode(WAL)")
	if err != nil {
		return nil, fmt.Errorf("database sqlite:%s: %w", path, Explain(err))
	}
	db.Path = abs
	if db.opened, err = os.Stat(abs); err != nil {
		return nil, errors.Join(fmt.Errorf("database sqlite:%s: %w", path, err), db.Close())
	}
	return db, nil
}

func openSQLite(ctx context.Context, name string, query url.Values, pragmas ...string) (*DB, error) {
	query.Set("_txlock", "immediate")
	query["_pragma"] = append([]string{
		fmt.Sprintf("busy_timeout(%d)", LockWait.Milliseconds()),
	}, append(pragmas,
		// An acknowledged write survives a power cut.
		"synchronous(FULL)",
		"foreign_keys(ON)",
		"cache_size(-16000)",
	)...)
	var watching *sql.DB
	db := &DB{Dialect: SQLite, readers: make(chan struct{}, sqliteReaders)}
	for _, pool := range []struct {
		into        **sql.DB
		connections int
	}{{&db.Write, 1}, {&db.Read, sqliteReaders}, {&watching, 1}} {
		conn, err := sql.Open("sqlite", name+"?"+query.Encode())
		if err != nil {
			return nil, err
		}
		conn.SetMaxOpenConns(pool.connections)
		conn.SetMaxIdleConns(pool.connections)
		if err := conn.PingContext(ctx); err != nil {
			for _, opened := range []*sql.DB{db.Write, db.Read} {
				if opened != nil {
					err = errors.Join(err, opened.Close())
				}
			}
			return nil, errors.Join(err, conn.Close())
		}
		*pool.into = conn
	}
	watch, err := newWatch(ctx, watching)
	if err != nil {
		return nil, errors.Join(err, watching.Close(), db.Close())
	}
	db.watch = watch
	return db, nil
}

// prepareConnection sets what each connection of a URL's sessions has, where
// the URL does not say otherwise.
//
// A connection keeps the plan of a prepared statement. Left to itself,
// PostgreSQL plans anew at each call once a table is large, since the estimates
// for known values look better than those for any: with a million keys that
// took longer than the query, although both plans are the same.
func prepareConnection(given map[string]string) func(context.Context, *pgx.Conn) error {
	settings := "SET plan_cache_mode = force_generic_plan"
	for _, timeout := range []struct {
		name  string
		after time.Duration
	}{
		{"statement_timeout", Deadline},
		{"lock_timeout", LockWait},
		// A server that stopped in the middle of a write gives its locks back.
		{"idle_in_transaction_session_timeout", 2 * Deadline},
	} {
		if _, set := given[timeout.name]; !set {
			settings += fmt.Sprintf("; SET %s = %d", timeout.name, timeout.after.Milliseconds())
		}
	}
	return func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, settings)
		return err
	}
}

func openPostgres(ctx context.Context, target string) (*DB, error) {
	config, err := pgxpool.ParseConfig(target)
	if err != nil {
		return nil, errors.New("database postgres: the URL is malformed")
	}
	if !strings.Contains(target, "pool_max_conns=") {
		config.MaxConns = keystoreConnections
	}
	// Times are written and read as UTC without a zone.
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["application_name"] = "byok-server"
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = LockWait
	}
	config.AfterConnect = prepareConnection(config.ConnConfig.RuntimeParams)
	access := openAccess(config)
	if err := access.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database postgres at %s:%d/%s: %w", config.ConnConfig.Host, config.ConnConfig.Port, config.ConnConfig.Database, err), access.Close())
	}
	found, schema, err := inspect(ctx, access)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database postgres: %w", Explain(err)), access.Close())
	}
	if found == adopted {
		if err := access.Close(); err != nil {
			return nil, fmt.Errorf("database postgres: %w", err)
		}
		config.ConnConfig.RuntimeParams["search_path"] = adoptedPath(schema)
		access = openAccess(config)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database postgres: %w", err), access.Close())
	}
	return &DB{Dialect: Postgres, Read: access, Write: access, Postgres: pool, layout: found, schema: schema}, nil
}

func openAccess(config *pgxpool.Config) *sql.DB {
	access := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionAfterConnect(config.AfterConnect))
	access.SetMaxOpenConns(accessConnections)
	access.SetMaxIdleConns(accessConnections)
	access.SetConnMaxIdleTime(5 * time.Minute)
	return access
}
