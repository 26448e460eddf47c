package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
)

// watch tells whether anything in a SQLite database has changed. It has a
// connection of its own, whose PRAGMA data_version differs from the one before
// whenever another connection, of any process, has committed a change.
type watch struct {
	mu   sync.Mutex
	db   *sql.DB
	conn *sql.Conn
	// query is a statement of the driver itself: every request asks, and
	// database/sql takes as long as SQLite.
	query func() (driver.Rows, error)
	value [1]driver.Value
}

func newWatch(ctx context.Context, db *sql.DB) (*watch, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &watch{db: db, conn: conn}
	err = conn.Raw(func(raw any) error {
		stmt, err := raw.(driver.Conn).Prepare("PRAGMA data_version")
		if err != nil {
			return err
		}
		prepared, ok := stmt.(driver.StmtQueryContext)
		if !ok {
			return fmt.Errorf("the driver's statements are %T", stmt)
		}
		w.query = func() (driver.Rows, error) { return prepared.QueryContext(context.Background(), nil) }
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

// close can be called again, as that of a sql.DB.
func (w *watch) close() error {
	err := w.conn.Close()
	if errors.Is(err, sql.ErrConnDone) {
		err = nil
	}
	return errors.Join(err, w.db.Close())
}

// version returns a number that only grows; ok is false where it cannot be told.
func (w *watch) version() (version int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.conn.Raw(func(any) error {
		rows, err := w.query()
		if err != nil {
			return err
		}
		return errors.Join(rows.Next(w.value[:]), rows.Close())
	})
	if err != nil {
		return 0, false
	}
	version, ok = w.value[0].(int64)
	return version, ok
}

// moment is the version that the reads of one request go by.
type moment struct {
	once    sync.Once
	version int64
	ok      bool
}

type momentKey struct{}

// AtOneMoment lets all reads under ctx that a Memo serves be of the moment of
// the first one, which asks once for all whether the database has changed. It is
// for a request that only reads and ends soon.
func AtOneMoment(ctx context.Context) context.Context {
	return context.WithValue(ctx, momentKey{}, &moment{})
}

func (w *watch) versionFor(ctx context.Context) (version int64, ok bool) {
	m, shared := ctx.Value(momentKey{}).(*moment)
	if !shared {
		return w.version()
	}
	m.once.Do(func() { m.version, m.ok = w.version() })
	return m.version, m.ok
}

// memoEntries bounds a Memo.
const memoEntries = 1024

// Memo keeps what was read from a SQLite database for as long as nothing at all
// in that database changes, which it asks before each use: what it returns is
// what the database holds when Read is called, or at the context's moment,
// whoever changed it last. On
// PostgreSQL, which cannot tell that for less than a read costs, it keeps
// nothing. Its values are shared: nobody may change them. It is safe for
// concurrent use.
type Memo[K comparable, V any] struct {
	db      *DB
	mu      sync.Mutex
	version int64
	entries map[K]V
}

// NewMemo returns an empty Memo.
func NewMemo[K comparable, V any](db *DB) *Memo[K, V] {
	return &Memo[K, V]{db: db, entries: map[K]V{}}
}

// Read returns what was kept under a key, or what read returns, which it keeps
// where keep says so. An error is not kept.
func (m *Memo[K, V]) Read(ctx context.Context, key K, read func() (V, error), keep func(V) bool) (V, error) {
	if m.db.watch == nil || ctx.Err() != nil {
		return read()
	}
	// Asked before the read: a change in between makes the kept value one of an
	// earlier version.
	version, ok := m.db.watch.versionFor(ctx)
	if !ok {
		return read()
	}
	m.mu.Lock()
	if version > m.version {
		m.version = version
		clear(m.entries)
	}
	value, found := m.entries[key]
	found = found && version == m.version
	m.mu.Unlock()
	if found {
		return value, nil
	}
	value, err := read()
	if err != nil || !keep(value) {
		return value, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if version == m.version && len(m.entries) < memoEntries {
		m.entries[key] = value
	}
	return value, nil
}
