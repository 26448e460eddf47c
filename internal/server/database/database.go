// Package database opens the store's database and brings its schema up to
// date. It knows where data lives, not what it means: keystore/sqlstore and
// access hold the queries, written once for both dialects with $1 placeholders.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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
	// Path is the SQLite file; empty for memory and PostgreSQL.
	Path string
}

// busyTimeout is how long a SQLite writer waits for another process.
const busyTimeout = 5 * time.Second

// Open opens a database by its target: "sqlite:PATH", "sqlite::memory:" or
// "postgres://USER:PASSWORD@HOST:PORT/NAME". It reaches the database but leaves
// the schema alone: call Migrate. Errors never contain a password.
func Open(ctx context.Context, target string) (*DB, error) {
	switch {
	case target == "sqlite::memory:":
		return openMemory(ctx)
	case strings.HasPrefix(target, "sqlite:"):
		return openFile(ctx, strings.TrimPrefix(target, "sqlite:"))
	case strings.HasPrefix(target, "postgres://"), strings.HasPrefix(target, "postgresql://"):
		return openPostgres(ctx, target)
	}
	return nil, errors.New("database must be sqlite:PATH, sqlite::memory: or postgres://USER:PASSWORD@HOST:PORT/NAME")
}

// Close closes the database.
func (db *DB) Close() error {
	if db.Read == db.Write {
		return db.Write.Close()
	}
	return errors.Join(db.Read.Close(), db.Write.Close())
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.Read.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

func openMemory(ctx context.Context) (*DB, error) {
	// A second connection would be a second, empty database.
	conn, err := openSQLite(ctx, ":memory:", 1)
	if err != nil {
		return nil, err
	}
	return &DB{Dialect: SQLite, Read: conn, Write: conn}, nil
}

func openFile(ctx context.Context, path string) (*DB, error) {
	if path == "" {
		return nil, errors.New("database sqlite: has no path; write sqlite:byok-server.db")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(filepath.Dir(abs)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("database sqlite:%s: the folder %s does not exist", path, filepath.Dir(path))
	}
	// The file holds password hashes, sessions and sealed keys. SQLite gives its
	// -wal and -shm files the same mode.
	file, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	if err != nil && !os.IsPermission(err) {
		return nil, fmt.Errorf("database sqlite:%s: %w", path, err)
	}
	if err == nil {
		_ = file.Close()
	}
	write, err := openSQLite(ctx, abs, 1)
	if err != nil {
		return nil, fmt.Errorf("database sqlite:%s: %w", path, err)
	}
	read, err := openSQLite(ctx, abs, 8)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database sqlite:%s: %w", path, err), write.Close())
	}
	return &DB{Dialect: SQLite, Read: read, Write: write, Path: abs}, nil
}

func openSQLite(ctx context.Context, path string, connections int) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}}
	for _, pragma := range []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		// An acknowledged write survives a power cut.
		"synchronous(FULL)",
		"foreign_keys(ON)",
		"cache_size(-16000)",
	} {
		query.Add("_pragma", pragma)
	}
	conn, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	conn.SetMaxOpenConns(connections)
	conn.SetMaxIdleConns(connections)
	if err := conn.PingContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func openPostgres(ctx context.Context, target string) (*DB, error) {
	config, err := pgx.ParseConfig(target)
	if err != nil {
		// The parser's message can quote the target, password included.
		return nil, errors.New("database postgres: the URL is malformed; write postgres://USER:PASSWORD@HOST:PORT/NAME")
	}
	// Times are written and read as UTC without a zone.
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["application_name"] = "byok-server"
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(24)
	pool.SetMaxIdleConns(24)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("database postgres at %s:%d/%s: %w", config.Host, config.Port, config.Database, err), pool.Close())
	}
	return &DB{Dialect: Postgres, Read: pool, Write: pool}, nil
}
