package database_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// targets are the databases that every test of both dialects runs on.
func targets() map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{
		"file":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "byok.db") },
		"memory":   func(*testing.T) string { return "sqlite::memory:" },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	}
}

// onEach runs a test on an empty database of each kind.
func onEach(t *testing.T, test func(*testing.T, *database.DB)) {
	t.Parallel()
	for name, target := range targets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, target(t)))
		})
	}
}

func open(t *testing.T, target string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"":                                    "must be sqlite:PATH",
		"mysql://root@localhost/x":            "must be sqlite:PATH",
		"byok.db":                             "must be sqlite:PATH",
		"sqlite:":                             "has no path",
		"sqlite:" + dir + "/missing/byok.db":  "does not exist",
		"sqlite:" + dir:                       "directory",
		"sqlite:" + text:                      "not a SQLite database",
		"postgres://u:hunter2@h:port/db":      "malformed",
		"postgres://u:hunter2@127.0.0.1:1/db": "postgres at 127.0.0.1:1/db",
	} {
		db, err := database.Open(t.Context(), target)
		if err == nil {
			_ = db.Close()
			t.Errorf("Open(%q) succeeded", target)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): %v, want it to say %q", target, err, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) tells the password: %v", target, err)
		}
	}
}

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "byok.db")
	db := open(t, "sqlite:"+path)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(path)+suffix, mode)
		}
	}
}

// An acknowledged write has to survive a power cut, whichever connection made
// it.
func TestDurability(t *testing.T) {
	t.Parallel()
	db := open(t, targets()["file"](t))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		for name, pool := range map[string]*sql.DB{"read": db.Read, "write": db.Write} {
			var got string
			if err := pool.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s connection: %s is %s, %v; want %s", name, pragma, got, err, want)
			}
		}
	}
}

func TestMemoryDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	first, second := open(t, "sqlite::memory:"), open(t, "sqlite::memory:")
	if _, err := first.Write.Exec("CREATE TABLE t (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := first.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Errorf("the readers do not see what the writer made: %v", err)
	}
	if err := second.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err == nil {
		t.Error("a second memory database sees the first one's table")
	}
}

// Every reader and writer works at once, a reader within another's rows too.
func TestConcurrentUse(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		if _, err := db.Write.Exec("CREATE TABLE t (n INTEGER)"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 20 {
					if _, err := db.Write.ExecContext(t.Context(), "INSERT INTO t (n) VALUES ($1)", 20*i+j); err != nil {
						t.Errorf("write: %v", err)
					}
				}
			})
			if i >= 3 { // nested reads need two connections each, and no pool has more than 8
				continue
			}
			wg.Go(func() {
				for range 20 {
					rows, err := db.Read.QueryContext(t.Context(), "SELECT n FROM t ORDER BY n LIMIT 2")
					if err != nil {
						t.Errorf("read: %v", err)
						return
					}
					for rows.Next() {
						var n int
						if err := db.Read.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
							t.Errorf("read within a read: %v", err)
						}
						break
					}
					_ = rows.Close()
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.Read.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 160 {
			t.Errorf("%d rows, %v; want 160", n, err)
		}
	})
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	db := open(t, targets()["file"](t))
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Root writes any file whatever its mode, so the connection says it instead.
	if _, err := db.Write.Exec("PRAGMA query_only = ON"); err != nil {
		t.Fatal(err)
	}
	_, err := db.Write.Exec("DELETE FROM workspace_byok_keys")
	if err = database.Explain(err); !errors.Is(err, database.ErrReadOnly) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("write to a read-only database: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	db := open(t, targets()["file"](t))
	if _, err := db.Write.Exec("CREATE TABLE t (text TEXT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write.Exec("PRAGMA max_page_count = 10"); err != nil {
		t.Fatal(err)
	}
	_, err := db.Write.Exec("INSERT INTO t VALUES ($1)", strings.Repeat("x", 1<<20))
	if err = database.Explain(err); !errors.Is(err, database.ErrDiskFull) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("write to a full disk: %v", err)
	}
	if _, err := db.Write.Exec("INSERT INTO t VALUES ('small')"); err != nil {
		t.Errorf("a write that fits: %v", err)
	}
}

func TestExplainLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	plain := errors.New("plain")
	if got := database.Explain(plain); got != plain { //nolint:errorlint // the very same error
		t.Errorf("Explain(%v) = %v", plain, got)
	}
	if got := database.Explain(nil); got != nil {
		t.Errorf("Explain(nil) = %v", got)
	}
	twice := database.Explain(database.Explain(fmt.Errorf("%w", database.ErrBusy)))
	if strings.Count(twice.Error(), database.ErrBusy.Error()) != 1 {
		t.Errorf("explained twice: %v", twice)
	}
}

// Times are exact to the microsecond, order as times do, and compare in SQL.
func TestTime(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		kind := "TEXT"
		if db.Dialect == database.Postgres {
			kind = "TIMESTAMP"
		}
		if _, err := db.Write.Exec("CREATE TABLE t (at " + kind + ", maybe " + kind + ")"); err != nil {
			t.Fatal(err)
		}
		base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		times := []time.Time{
			base.Add(time.Microsecond), base, base.Add(-time.Microsecond), base.Add(999999 * time.Microsecond), base.AddDate(1, 0, 0),
			base.Add(10 * time.Microsecond), base.Add(100 * time.Millisecond), base.AddDate(-30, 0, 0), base.AddDate(73, 0, 0),
		}
		for _, at := range times {
			maybe := database.NullTime{Time: at, Valid: true}
			if _, err := db.Write.Exec("INSERT INTO t (at, maybe) VALUES ($1, $2)", database.At(at.In(time.FixedZone("", -5*3600)).Add(999)), maybe); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		rows, err := db.Read.Query("SELECT at, maybe FROM t ORDER BY at")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for i := 0; rows.Next(); i++ {
			var at database.Time
			var maybe database.NullTime
			if err := rows.Scan(&at, &maybe); err != nil {
				t.Fatal(err)
			}
			if at.Time != times[i] || maybe != (database.NullTime{Time: times[i], Valid: true}) {
				t.Errorf("row %d is %v and %v, want %v", i, at, maybe, times[i])
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		var later int
		if err := db.Read.QueryRow("SELECT count(*) FROM t WHERE at > $1", database.At(base)).Scan(&later); err != nil || later != 6 {
			t.Errorf("%d times after the base, %v; want 6", later, err)
		}
		if _, err := db.Write.Exec("INSERT INTO t (maybe) VALUES ($1)", database.NullTime{}); err != nil {
			t.Fatal(err)
		}
		var none database.NullTime
		if err := db.Read.QueryRow("SELECT maybe FROM t WHERE at IS NULL").Scan(&none); err != nil || none.Valid {
			t.Errorf("a stored NULL reads as %v, %v", none, err)
		}
	})
}
