package postgres

import (
	"context"
	"errors"
	"testing"
)

// A lock has one holder at a time; whoever waits longer than its context leaves
// it as it was; and nothing is kept of a lock that nobody has.
func TestLocks(t *testing.T) {
	t.Parallel()
	var l locks
	take := func(name string) func() {
		t.Helper()
		release, err := l.take(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	taken := func(name string) bool {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// A lock that is free and a context that has ended are a toss-up.
		for range 64 {
			release, err := l.take(ctx, name)
			if err == nil {
				release()
				return false
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		return true
	}
	first := take("a")
	take("b")() // another lock
	if !taken("a") {
		t.Error("two have a lock")
	}
	next := make(chan func())
	go func() {
		release, err := l.take(context.WithoutCancel(t.Context()), "a")
		if err != nil {
			t.Error(err)
		}
		next <- release
	}()
	first()
	second := <-next
	if !taken("a") {
		t.Error("two have a lock that was handed on")
	}
	second()
	if taken("a") {
		t.Error("nobody gets a lock that was given back")
	}
	if len(l.held) != 0 {
		t.Errorf("%d locks are kept, and nobody has one", len(l.held))
	}
}
