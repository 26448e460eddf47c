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
// everybody who waits, and ends when nobody does for a while: a disk that hangs holds it,
// not the callers.
type queue struct {
	db *database.DB
	// deadline is how long a caller waits at most.
	deadline time.Duration
	// linger is how long the committing goroutine waits for the next write. SQLite
	// needs a deep stack, and to grow one for each write costs as much as the write.
	linger time.Duration

	mu         sync.Mutex
	waiting    []*write
	committing bool
	// wake tells the committing goroutine that a write waits.
	wake chan struct{}
}

type write struct {
	// run is one statement, which fails as a whole or not at all. It may run
	// twice, in another transaction, so it sets its results anew each time.
	run  func(*sql.Tx) error
	err  error
	done chan struct{}
}

func newQueue(db *database.DB) *queue {
	return &queue{db: db, deadline: database.Deadline, linger: time.Minute, wake: make(chan struct{}, 1)}
}

// do returns what run returned once it is committed, or an error when nothing
// of it is. A context that is cancelled takes back a write that has not begun.
// After the deadline, the context's or the queue's, it is taken back too, with
// keystore.ErrLockTimeout; where it has begun, its outcome is unknown and the
// error is database.ErrTimeout.
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
	ctx, cancel := context.WithTimeout(ctx, q.deadline)
	defer cancel()
	select {
	case <-w.done:
	case <-ctx.Done():
		switch {
		case !q.withdraw(w):
			// It ends within the busy timeout, unless the disk hangs.
			end, _ := ctx.Deadline()
			late := time.NewTimer(time.Until(end))
			defer late.Stop()
			select {
			case <-w.done:
			case <-late.C:
				return none, database.ErrTimeout
			}
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return none, keystore.ErrLockTimeout
		default:
			return none, ctx.Err()
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
		return
	}
	select {
	case q.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// commitAll commits until nobody has written for a while.
func (q *queue) commitAll() {
	idle := time.NewTimer(q.linger)
	defer idle.Stop()
	for ended := false; ; {
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		q.committing = len(batch) > 0 || !ended
		q.mu.Unlock()
		switch {
		case len(batch) > 0:
			q.commit(batch)
			ended = false
			idle.Reset(q.linger)
		case ended:
			return
		default:
			select {
			case <-q.wake:
			case <-idle.C:
				ended = true
			}
		}
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
	if err := q.db.Present(); err != nil {
		return report(err)
	}
	conn, err := q.connect()
	if err != nil {
		return report(err)
	}
	defer conn.Close() //nolint:errcheck // gives it back
	// The wait for another process ends by the busy timeout, not by the context
	// of one of the callers.
	tx, err := conn.BeginTx(context.Background(), nil)
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

// connect waits for the connection for writes, which users and sessions use too.
func (q *queue) connect() (*sql.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keystore.LockWait)
	defer cancel()
	conn, err := q.db.Write.Conn(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(keystore.ErrLockTimeout, err)
	}
	return conn, err
}

// isOutcome reports an error that a write decides on, not one of the database:
// the transaction is sound.
func isOutcome(err error) bool {
	return errors.Is(err, keystore.ErrFull) || errors.Is(err, keystore.ErrNotFound)
}
