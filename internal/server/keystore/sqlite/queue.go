package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// queue runs writes one after the other, all that wait in one transaction: they
// share the sync to disk, which is what a write costs. A goroutine commits for
// everybody who waits, and ends when nobody does: a disk that hangs holds it,
// not the callers.
type queue struct {
	db *database.DB

	mu         sync.Mutex
	waiting    []*write
	committing bool
}

type write struct {
	// run is one statement, which fails as a whole or not at all. It may run
	// twice, in another transaction, so it sets its results anew each time.
	run  func(*sql.Tx) error
	err  error
	done chan struct{}
}

func newQueue(db *database.DB) *queue { return &queue{db: db} }

// do returns what run returned once it is committed, or an error when nothing
// of it is. A context that ends takes back a write that has not begun. After
// database.Deadline it is taken back too, with keystore.ErrLockTimeout; where
// it has begun, its outcome is unknown and the error is database.ErrTimeout.
func do[T any](ctx context.Context, q *queue, run func(*sql.Tx) (T, error)) (T, error) {
	var result, none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	w := &write{done: make(chan struct{})}
	w.run = func(tx *sql.Tx) (err error) {
		result, err = run(tx)
		return err
	}
	q.add(w)
	ctx, cancel := context.WithTimeoutCause(ctx, database.Deadline, keystore.ErrLockTimeout)
	defer cancel()
	select {
	case <-w.done:
	case <-ctx.Done():
		if q.withdraw(w) {
			return none, context.Cause(ctx)
		}
		// A write that has begun ends within the busy timeout, unless the disk
		// hangs.
		late := time.NewTimer(database.Deadline)
		defer late.Stop()
		select {
		case <-w.done:
		case <-late.C:
			return none, database.ErrTimeout
		}
	}
	if w.err != nil {
		return none, w.err
	}
	return result, nil
}

func (q *queue) add(w *write) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
	if !q.committing {
		q.committing = true
		go q.commitAll()
	}
}

// commitAll commits until nobody waits.
func (q *queue) commitAll() {
	for {
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		q.committing = len(batch) > 0
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		q.commit(batch)
	}
}

func (q *queue) withdraw(w *write) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (q *queue) commit(batch []*write) {
	if q.transact(batch) {
		return
	}
	// One statement failed and took the transaction with it. Alone, each write
	// gets its own error.
	for _, w := range batch {
		q.transact([]*write{w})
	}
}

// transact runs the batch in one transaction and reports each outcome. It
// returns false, with nothing stored or reported, where a statement failed that
// did not run alone.
func (q *queue) transact(batch []*write) bool {
	report := func(err error) bool {
		for _, w := range batch {
			if err != nil {
				w.err = err
			}
			close(w.done)
		}
		return true
	}
	// Not the context of one of the callers. It bounds the wait for the
	// connection; the wait for another process ends by the busy timeout.
	ctx, cancel, err := q.db.ForWrite(context.Background())
	if err != nil {
		return report(err)
	}
	defer cancel()
	tx, err := q.db.Write.BeginTx(ctx, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(keystore.ErrLockTimeout, err) // nothing has begun
	}
	if err != nil {
		return report(err)
	}
	for _, w := range batch {
		w.err = w.run(tx)
		if w.err == nil || isOutcome(w.err) {
			continue
		}
		_ = tx.Rollback()
		if len(batch) > 1 {
			return false
		}
		return report(w.err)
	}
	return report(tx.Commit())
}

// isOutcome reports an error that a write decides on, not one of the database:
// the transaction is sound.
func isOutcome(err error) bool {
	return errors.Is(err, keystore.ErrFull) || errors.Is(err, keystore.ErrNotFound)
}
