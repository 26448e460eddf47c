package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// While one write hangs, as on a disk that does not respond, its caller is told
// that the outcome is unknown, and the callers behind it that nothing was done.
func TestHangingWrite(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := newQueue(db)
	for name, deadlines := range map[string]struct{ queue, caller time.Duration }{
		"the queue's deadline":  {100 * time.Millisecond, time.Hour},
		"the caller's deadline": {time.Hour, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			q.deadline = deadlines.queue
			testHangingWrite(t, q, deadlines.caller)
		})
	}
}

func testHangingWrite(t *testing.T, q *queue, deadline time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began, end := make(chan struct{}), make(chan struct{})
	hanging := make(chan error)
	go func() {
		_, err := do(ctx, q, func(*sql.Tx) (int, error) {
			close(began)
			<-end
			return 1, nil
		})
		hanging <- err
	}()
	<-began
	behind := false
	_, err := do(ctx, q, func(*sql.Tx) (int, error) {
		behind = true
		return 2, nil
	})
	if !errors.Is(err, keystore.ErrLockTimeout) {
		t.Errorf("the write behind: %v, want ErrLockTimeout", err)
	}
	if err := <-hanging; !errors.Is(err, database.ErrTimeout) {
		t.Errorf("the hanging write: %v, want ErrTimeout", err)
	}
	close(end)
	if got, err := do(t.Context(), q, func(*sql.Tx) (int, error) { return 3, nil }); got != 3 || err != nil {
		t.Errorf("a write after it: %d, %v", got, err)
	}
	if behind {
		t.Error("a write that was taken back was done")
	}
}

// The goroutine that commits ends when nobody has written for a while, and the
// next write starts another one.
func TestQueueStartsAgain(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := newQueue(db)
	q.linger = time.Millisecond
	for i := range 5 {
		if got, err := do(t.Context(), q, func(*sql.Tx) (int, error) { return i, nil }); got != i || err != nil {
			t.Fatalf("write %d: %d, %v", i, got, err)
		}
		committing := func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.committing
		}
		for deadline := time.Now().Add(time.Minute); committing(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the goroutine does not end")
			}
		}
	}
}
