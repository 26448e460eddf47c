package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/conformance"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/postgres"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func TestConformance(t *testing.T) {
	t.Parallel()
	// Most databases sort by a language; keys sort by their bytes all the same.
	// Every other test has the collation C.
	const english = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
	conformance.Run(t, func(t *testing.T, now func() time.Time) keystore.Store {
		_, store := open(t, pgtest.URL(t, english), now)
		return store
	})
}

func TestInstances(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	stores := make([]keystore.Store, 4)
	for i := range stores {
		_, stores[i] = open(t, url, time.Now)
	}
	conformance.RunInstances(t, stores)
}

var (
	openai    = keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w"}, ProviderID: "openai"}
	anthropic = keystore.Pool{Owner: openai.Owner, ProviderID: "anthropic"}
)

// The real server's lock, held by another program: adds to that pool wait 5 s and
// give up with nothing stored, and nothing else waits, although more adds wait
// than there are connections. WIRE.md section 5.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, store := open(t, url, time.Now)
	unlock := lock(t, url, "byok:w:openai")

	var waiting sync.WaitGroup
	began := time.Now()
	for i := range 2 * int(db.Postgres.Config().MaxConns) {
		waiting.Go(func() {
			_, err := store.Add(t.Context(), openai, keystore.NewKey{ID: fmt.Sprint("late-", i), Sealed: "s"}, byok.Cap)
			if !errors.Is(err, keystore.ErrLockTimeout) {
				t.Errorf("add to the locked pool: %v, want ErrLockTimeout", err)
			}
		})
	}
	until(t, "an add waits for the lock", func() bool { return locksWaitedFor(t, db) == 1 })
	if _, err := store.Add(t.Context(), anthropic, keystore.NewKey{ID: "a", Sealed: "s"}, byok.Cap); err != nil {
		t.Errorf("add to another pool: %v", err)
	}
	if _, err := store.Pool(t.Context(), openai); err != nil {
		t.Errorf("read of the locked pool: %v", err)
	}
	if locksWaitedFor(t, db) != 1 {
		t.Error("the adds no longer waited while the others were served")
	}
	waiting.Wait()
	if waited := time.Since(began); waited < keystore.LockWait {
		t.Errorf("the adds gave up after %s, before %s were over", waited, keystore.LockWait)
	}
	unlock()
	if _, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "k", Sealed: "s"}, byok.Cap); err != nil {
		t.Errorf("add after the lock was given back: %v", err)
	}
	keys, err := store.Pool(t.Context(), openai)
	if err != nil || len(keys) != 1 {
		t.Errorf("the pool holds %v, %v; want the last key alone", keys, err)
	}
}

// Another session holds the rows of a pool: changes to it end with
// ErrLockTimeout, and meanwhile reads and writes of other pools go on, although
// more changes wait than there are connections.
func TestRowsLocked(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, store := open(t, url, time.Now)
	for _, pool := range []keystore.Pool{openai, anthropic} {
		for i := range byok.Cap {
			if _, err := store.Add(t.Context(), pool, keystore.NewKey{ID: fmt.Sprint(pool.ProviderID, i), Sealed: "s"}, byok.Cap); err != nil {
				t.Fatal(err)
			}
		}
	}
	unlock := hold(t, url, "SELECT id FROM workspace_byok_keys WHERE provider_id = 'openai' FOR UPDATE")

	var waiting sync.WaitGroup
	for i := range 2 * int(db.Postgres.Config().MaxConns) {
		waiting.Go(func() {
			var err error
			switch i % 3 {
			case 0:
				_, err = store.Replace(t.Context(), openai, fmt.Sprint("openai", i%byok.Cap), keystore.Replacement{Sealed: "late"})
			case 1:
				err = store.Delete(t.Context(), openai, fmt.Sprint("openai", i%byok.Cap))
			case 2:
				_, err = store.DeletePool(t.Context(), openai)
			}
			if !errors.Is(err, keystore.ErrLockTimeout) {
				t.Errorf("change %d of the locked pool: %v, want ErrLockTimeout", i, err)
			}
		})
	}
	until(t, "a change waits for the rows", func() bool { return rowsWaitedFor(t, db) > 0 })
	began := time.Now()
	if _, err := store.Replace(t.Context(), anthropic, "anthropic0", keystore.Replacement{Sealed: "new"}); err != nil {
		t.Errorf("replace in another pool: %v", err)
	}
	if keys, err := store.Pool(t.Context(), openai); err != nil || len(keys) != byok.Cap || keys[0].Sealed != "s" {
		t.Errorf("read of the locked pool: %d keys, %v", len(keys), err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if took := time.Since(began); rowsWaitedFor(t, db) == 0 && took < keystore.LockWait {
		t.Errorf("the changes no longer waited while the others were served, %s long", took)
	}
	waiting.Wait()
	unlock()
	if err := store.Delete(t.Context(), openai, "openai0"); err != nil {
		t.Errorf("delete after the rows were given back: %v", err)
	}
}

// With the whole table locked, reads wait too, but not for ever, and the ping of
// a server without a free connection says so.
func TestTableLocked(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, store := open(t, url, time.Now)
	unlock := hold(t, url, "LOCK TABLE workspace_byok_keys IN ACCESS EXCLUSIVE MODE")
	var waiting sync.WaitGroup
	connections := int(db.Postgres.Config().MaxConns)
	for range connections {
		waiting.Go(func() {
			if _, err := store.List(t.Context(), openai.Owner); !errors.Is(err, database.ErrBusy) {
				t.Errorf("list: %v, want ErrBusy", err)
			}
		})
	}
	until(t, "every connection waits", func() bool { return int(db.Postgres.Stat().AcquiredConns()) == connections })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := db.Ping(ctx); !errors.Is(err, database.ErrTimeout) {
		t.Errorf("ping: %v, want ErrTimeout: no connection is free", err)
	}
	waiting.Wait()
	unlock()
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("ping after the lock was given back: %v", err)
	}
}

// A statement ends by itself, also where its client is gone.
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, _ := open(t, url, time.Now)
	shown := func(db *database.DB) string {
		t.Helper()
		var access, keys string
		const query = "SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'))"
		if err := db.Read.QueryRow(query).Scan(&access); err != nil {
			t.Fatal(err)
		}
		if err := db.Postgres.QueryRow(t.Context(), query).Scan(&keys); err != nil {
			t.Fatal(err)
		}
		if access != keys {
			t.Errorf("the pools differ: %s and %s", access, keys)
		}
		return keys
	}
	if got := shown(db); got != "10s 5s 20s" {
		t.Errorf("timeouts %s", got)
	}
	if _, err := db.Postgres.Exec(t.Context(), "SET statement_timeout = 1; SELECT pg_sleep(5)"); !errors.Is(database.Explain(err), database.ErrTimeout) {
		t.Errorf("a long statement: %v, want ErrTimeout", err)
	}
	// The URL has the last word.
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	other, _ := open(t, url+separator+"statement_timeout=7000", time.Now)
	if got := shown(other); got != "7s 5s 20s" {
		t.Errorf("timeouts with one in the URL: %s", got)
	}
}

// An add that is given up while it waits stores nothing, and leaves no lock
// behind.
func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, store := open(t, url, time.Now)
	unlock := lock(t, url, "byok:w:openai")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := store.Add(ctx, openai, keystore.NewKey{ID: "given-up", Sealed: "s"}, byok.Cap)
		failed <- err
	}()
	until(t, "the add waits for the lock", func() bool { return locksWaitedFor(t, db) == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("add: %v, want context.Canceled", err)
	}
	unlock()
	if _, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "k", Sealed: "s"}, byok.Cap); err != nil {
		t.Errorf("add by the next: %v", err)
	}
	if keys, err := store.Pool(t.Context(), openai); err != nil || len(keys) != 1 || keys[0].ID != "k" {
		t.Errorf("the pool holds %v, %v", keys, err)
	}
}

// createdAt is taken when the lock is held, not when the add arrives.
func TestStampedUnderLock(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, store := open(t, url, time.Now)
	unlock := lock(t, url, "byok:organization:o:openai")
	added := make(chan keystore.Record)
	go func() {
		record, err := store.Add(t.Context(), keystore.Pool{Owner: keystore.Owner{Scope: keystore.Organization, ID: "o"}, ProviderID: "openai"},
			keystore.NewKey{ID: "k", Sealed: "s"}, byok.Cap)
		if err != nil {
			t.Errorf("add: %v", err)
		}
		added <- record
	}()
	until(t, "the add waits for the lock", func() bool { return locksWaitedFor(t, db) == 1 })
	unlocked := time.Now()
	unlock()
	if record := <-added; record.CreatedAt.Before(unlocked.Truncate(time.Microsecond)) {
		t.Errorf("created at %v, before the lock was free at %v", record.CreatedAt, unlocked)
	}
}

// A database whose transactions see one snapshot would count what was there
// before the wait.
func TestDefaultIsolation(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, _ := open(t, url, time.Now)
	if _, err := db.Write.Exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	stores := make([]keystore.Store, 2)
	for i := range stores {
		_, stores[i] = open(t, url, time.Now)
	}
	conformance.RunInstances(t, stores)
}

// lock holds an advisory lock on a connection of its own until the returned
// function is called.
func lock(t *testing.T, url, name string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// hold runs a statement in a transaction that stays open until the returned
// function is called.
func hold(t *testing.T, url, statement string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN; "+statement); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// rowsWaitedFor counts the sessions of this database that wait for another
// transaction.
func rowsWaitedFor(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	err := db.Read.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// locksWaitedFor counts the sessions of this database that wait for an advisory
// lock.
func locksWaitedFor(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	err := db.Read.QueryRow(`SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
		WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(4 * time.Second); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// open migrates a database and returns a store on it; both close with the test.
func open(t testing.TB, url string, now func() time.Time) (*database.DB, *postgres.Store) {
	t.Helper()
	db, err := database.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db, postgres.New(db, now)
}
