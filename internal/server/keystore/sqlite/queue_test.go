package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

var openai = keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w"}, ProviderID: "openai"}

// Writes that wait at once share a transaction; one that the database refuses
// takes none of the others with it.
func TestBatchWithOneBadWrite(t *testing.T) {
	t.Parallel()
	db, store := open(t, fileTarget(t), time.Now)
	if _, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "taken", Sealed: "s"}, byok.Cap); err != nil {
		t.Fatal(err)
	}
	hold := begin(t, db.Write) // everybody queues up behind it
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range 12 {
		wg.Go(func() {
			id := fmt.Sprint("k", i)
			if i%4 == 0 {
				id = "taken"
			}
			pool := keystore.Pool{Owner: openai.Owner, ProviderID: fmt.Sprint("p", i)}
			switch _, err := store.Add(t.Context(), pool, keystore.NewKey{ID: id, Sealed: "s"}, byok.Cap); {
			case id == "taken" && err != nil && !errors.Is(err, database.ErrTimeout):
				refused.Add(1)
			case err != nil:
				t.Errorf("add %s: %v", id, err)
			}
		})
	}
	rollback(t, hold)
	wg.Wait()
	records, err := store.List(t.Context(), openai.Owner)
	if err != nil || len(records) != 1+9 || refused.Load() != 3 {
		t.Errorf("%d keys stored, %d adds refused, %v; want 10 and 3", len(records), refused.Load(), err)
	}
}

// A write that is given up before its turn is not done.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	db, store := open(t, fileTarget(t), time.Now)
	hold := begin(t, db.Write)
	first := make(chan error)
	go func() { // has the turn, and waits for the connection
		_, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "first", Sealed: "s"}, byok.Cap)
		first <- err
	}()
	until(t, "the first write has the turn", func() bool { return db.Write.Stats().WaitCount > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := store.Add(ctx, openai, keystore.NewKey{ID: "given-up", Sealed: "s"}, byok.Cap); !errors.Is(err, keystore.ErrLockTimeout) {
		t.Errorf("add: %v, want ErrLockTimeout, which says that nothing was changed", err)
	}
	rollback(t, hold)
	if err := <-first; err != nil {
		t.Errorf("first add: %v", err)
	}
	if keys, err := store.Pool(t.Context(), openai); err != nil || len(keys) != 1 || keys[0].ID != "first" {
		t.Errorf("the pool holds %v, %v", keys, err)
	}
}

// Another process that keeps the file locked is waited for, not for ever.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	target := fileTarget(t)
	_, store := open(t, target, time.Now)
	other, _ := open(t, target, time.Now)
	hold := begin(t, other.Write)
	_, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "late", Sealed: "s"}, byok.Cap)
	if !errors.Is(err, keystore.ErrLockTimeout) || !errors.Is(err, database.ErrBusy) {
		t.Errorf("add: %v, want ErrLockTimeout", err)
	}
	if _, err := store.Pool(t.Context(), openai); err != nil {
		t.Errorf("read while another process writes: %v", err)
	}
	rollback(t, hold)
	if _, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "k", Sealed: "s"}, byok.Cap); err != nil {
		t.Errorf("add after the lock was given back: %v", err)
	}
}

// Writes and reads that find no connection give up, and nothing is stored.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	db, store := open(t, fileTarget(t), time.Now)
	hold := begin(t, db.Write)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			_, err := store.Add(t.Context(), openai, keystore.NewKey{ID: fmt.Sprint("late", i), Sealed: "s"}, byok.Cap)
			if !errors.Is(err, keystore.ErrLockTimeout) {
				t.Errorf("add: %v, want ErrLockTimeout", err)
			}
		})
	}
	var readers []func()
	for range db.Read.Stats().MaxOpenConnections {
		_, done, err := db.ForRead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, done)
	}
	if _, err := store.Pool(t.Context(), openai); !errors.Is(err, database.ErrTimeout) {
		t.Errorf("read: %v, want ErrTimeout", err)
	}
	for _, done := range readers {
		done()
	}
	wg.Wait()
	rollback(t, hold)
	if keys, err := store.Pool(t.Context(), openai); err != nil || len(keys) != 0 {
		t.Errorf("the pool holds %v, %v", keys, err)
	}
	if _, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "k", Sealed: "s"}, byok.Cap); err != nil {
		t.Errorf("add after the connection was given back: %v", err)
	}
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func rollback(t *testing.T, tx *sql.Tx) {
	t.Helper()
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}
