package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// queue runs writes one after the other, all that wait in one transaction: they
// share the sync to disk, which is what a write costs. There is no goroutine
// behind it; whoever gets the turn commits for everybody who waits.
type queue struct {
	db   *sql.DB
	turn chan struct{} // holds the token of whoever is committing

	mu      sync.Mutex
	waiting []*write
}

type write struct {
	// run is one statement, which fails as a whole or not at all. It may run
	// twice, in another transaction, so it sets its results anew each time.
	run  func(*sql.Tx) error
	err  error
	done chan struct{}
}

func newQueue(db *sql.DB) *queue {
	return &queue{db: db, turn: make(chan struct{}, 1)}
}

// do returns when run is committed, or with an error when nothing of it is. A
// context that ends takes back a write that has not begun.
func (q *queue) do(ctx context.Context, run func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &write{run: run, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()

	select {
	case <-w.done:
	case q.turn <- struct{}{}:
		q.commit()
		<-q.turn
		<-w.done // closed by this turn, or by an earlier one
	case <-ctx.Done():
		if q.withdraw(w) {
			return ctx.Err()
		}
		<-w.done
	}
	return w.err
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

func (q *queue) commit() {
	q.mu.Lock()
	batch := q.waiting
	q.waiting = nil
	q.mu.Unlock()

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
	if len(batch) == 0 {
		return true
	}
	report := func(err error) bool {
		for _, w := range batch {
			if err != nil {
				w.err = err
			}
			close(w.done)
		}
		return true
	}
	// The wait for another process ends by the busy timeout, not by the context
	// of one of the callers.
	tx, err := q.db.BeginTx(context.Background(), nil)
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
