package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	for name, clause := range map[string]string{
		"collation C": "",
		// Most databases sort by a language; keys sort by their bytes all the same.
		"collation English": "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, func(t *testing.T, now func() time.Time) keystore.Store {
				_, store := open(t, pgtest.URL(t, clause), now)
				return store
			})
		})
	}
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

// The real server's lock, held by somebody else: adds to that pool wait 5 s and
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
