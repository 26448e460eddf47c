package postgres

import (
	"context"
	"sync"
)

// locks lets one add per pool at a time go for the pool's advisory lock. The
// others of this process wait here, without a connection: however long another
// instance holds a pool, every other pool still finds one.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	turn    chan struct{} // holds the token of whoever has the lock
	holders int           // who has it or waits for it
}

// take returns the function that gives the lock back.
func (l *locks) take(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	entry := l.held[name]
	if entry == nil {
		entry = &lock{turn: make(chan struct{}, 1)}
		l.held[name] = entry
	}
	entry.holders++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if entry.holders--; entry.holders == 0 {
			delete(l.held, name)
		}
	}
	select {
	case entry.turn <- struct{}{}:
		return func() { <-entry.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
