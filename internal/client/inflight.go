package client

import (
	"context"
	"sync"
	"time"
)

// inFlight is one piece of work that several callers wait for. It belongs to
// none of them: a caller that gives up leaves the others their result, and the
// work is stopped when no caller waits any more.
type inFlight[T any] struct {
	done  chan struct{}
	value T
	err   *failure

	mu      sync.Mutex
	waiters int
	ended   bool
	cancel  context.CancelFunc
}

// launch starts work with the values of ctx, but not its end.
func launch[T any](ctx context.Context, work func(context.Context) (T, *failure)) *inFlight[T] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &inFlight[T]{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer cancel()
		f.value, f.err = work(ctx)
		close(f.done)
	}()
	return f
}

// join counts the caller in, unless the work has been stopped.
func (f *inFlight[T]) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.waiters++
	return true
}

// wait returns the outcome, or the failure of ctx. The caller has joined.
func (f *inFlight[T]) wait(ctx context.Context) (T, *failure) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.waiters--; f.waiters == 0 {
			f.ended = true
			f.cancel()
		}
	}()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none T
		return none, ended(ctx)
	}
}

// writeContext is the context of a write. It ends with its parent, unless the
// write is being sent: then it goes on for the grace, so that a user's
// interrupt does not lose the ID of a key that is being stored.
type writeContext struct {
	context.Context
	parent context.Context
	grace  time.Duration
	cancel context.CancelFunc
	detach func() bool

	mu    sync.Mutex
	held  bool
	timer *time.Timer
}

func newWriteContext(parent context.Context, grace time.Duration) *writeContext {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	l := &writeContext{Context: ctx, parent: parent, grace: grace, cancel: cancel}
	l.detach = context.AfterFunc(parent, l.parentEnded)
	return l
}

func (l *writeContext) parentEnded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		l.cancel()
		return
	}
	l.timer = time.AfterFunc(l.grace, l.cancel)
}

// hold notes that a write is being sent from here on.
func (l *writeContext) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// release notes that no write is being sent any more.
func (l *writeContext) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	if l.parent.Err() != nil {
		l.cancel()
	}
}

// close ends the writeContext; its owner needs it no more.
func (l *writeContext) close() {
	l.detach()
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}

// sleep waits for d, or returns the failure of ctx.
func sleep(ctx context.Context, d time.Duration) *failure {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended is the failure of a context that is over.
func ended(ctx context.Context) *failure {
	err := ctx.Err()
	if l, ok := ctx.(*writeContext); ok && l.parent.Err() != nil {
		err = l.parent.Err()
	}
	return &failure{kind: KindCanceled, refused: true, err: err}
}

// deadline is when ctx ends, for a writeContext when its parent does; zero for
// never.
func deadline(ctx context.Context) time.Time {
	if write, ok := ctx.(*writeContext); ok {
		ctx = write.parent
	}
	at, _ := ctx.Deadline()
	return at
}
