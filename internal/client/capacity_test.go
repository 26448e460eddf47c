package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// fullPool fills a pool of w1 and returns the IDs of its keys.
func fullPool(s *scene, providerID string) (byok.Pool, []string) {
	var ids []string
	for i := range byok.Cap {
		ids = append(ids, s.model.seed("w1/"+providerID, fmt.Sprintf("sk-filler-%08d", i), "", time.Now().Add(-time.Hour)))
	}
	return byok.Pool{Scope: w1, ProviderID: providerID}, ids
}

// outcome is how an add ended, and after which time.
type outcome struct {
	err   error
	after time.Duration
}

// addWaiting starts an add to each of pools that waits for capacity, and returns a function
// that waits for their outcomes.
func addWaiting(s *scene, pools ...byok.Pool) (wait func() []outcome) {
	var wg sync.WaitGroup
	outcomes := make([]outcome, len(pools))
	start := time.Now()
	for i, pool := range pools {
		wg.Go(func() {
			_, err := s.client.Add(s.ctx, pool, AddInput{APIKey: canary, WaitForCapacity: true})
			outcomes[i] = outcome{err, time.Since(start)}
		})
	}
	return func() []outcome { wg.Wait(); return outcomes }
}

func wantStuck(s *scene, outcomes []outcome, waiting int, after time.Duration) {
	s.Helper()
	for _, o := range outcomes {
		e := s.wantKind(o.err, KindCapReached)
		if e.Waiting != waiting || e.Cap != byok.Cap || o.after != after {
			s.Errorf("failed after %s with %d waiting, want %s and %d: %v", o.after, e.Waiting, after, waiting, e)
		}
	}
}

// TestAddsThatHoldAllSlots: adds that wait for capacity fail once nothing can
// free it any more.
func TestAddsThatHoldAllSlots(t *testing.T) {
	t.Parallel()
	two := func(s *scene, n int) []byok.Pool {
		first, _ := fullPool(s, "openai")
		second, _ := fullPool(s, "anthropic")
		return append(slices.Repeat([]byok.Pool{first}, n-1), second)
	}
	t.Run("as many as there are slots", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) { wantStuck(s, addWaiting(s, two(s, 10)...)(), 10, stuckAfter) })
	})
	t.Run("fewer", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) { wantStuck(s, addWaiting(s, two(s, 9)...)(), 9, idleAfter) })
	})
	t.Run("fewer, but others have waited for their slots", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			pools := two(s, 2)
			wantStuck(s, addWaiting(s, pools...)(), 2, idleAfter)
			time.Sleep(promptly / 2)
			wantStuck(s, addWaiting(s, pools...)(), 2, stuckAfter)
		})
	})
	t.Run("the next calls come much later", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			pools := two(s, 2)
			wantStuck(s, addWaiting(s, pools...)(), 2, idleAfter)
			time.Sleep(promptly)
			wantStuck(s, addWaiting(s, pools...)(), 2, idleAfter)
		})
	})
	t.Run("beside a delete that takes long", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			pool, ids := fullPool(s, "openai")
			s.model.script = func(_ int, r *http.Request, _ []byte) act {
				if r.Method == http.MethodDelete {
					time.Sleep(20 * time.Second)
				}
				return act{}
			}
			wait := addWaiting(s, slices.Repeat([]byok.Pool{pool}, 9)...)
			if err := s.client.Delete(s.ctx, pool, ids[0]); err != nil {
				s.Fatal(err)
			}
			outcomes := wait()
			stored := slices.IndexFunc(outcomes, func(o outcome) bool { return o.err == nil })
			if stored < 0 || outcomes[stored].after != 20*time.Second {
				s.Fatalf("the delete made capacity for none: %v", outcomes)
			}
			wantStuck(s, slices.Delete(outcomes, stored, stored+1), 8, 20*time.Second+idleAfter)
		})
	})
	t.Run("beside an add that does not wait", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			pools := two(s, 10)
			s.model.script = func(_ int, r *http.Request, body []byte) act {
				if describe(r, body) == "ADD mistral" {
					time.Sleep(10 * time.Second)
				}
				return act{}
			}
			wait := addWaiting(s, pools...)
			if _, err := s.client.Add(s.ctx, byok.Pool{Scope: w1, ProviderID: "mistral"}, input()); err != nil {
				s.Error(err)
			}
			wantStuck(s, wait(), 10, 10*time.Second+stuckAfter)
		})
	})
	t.Run("a swap of ten keys", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			pool, ids := fullPool(s, "openai")
			wait := addWaiting(s, slices.Repeat([]byok.Pool{pool}, 10)...)
			time.Sleep(stuckAfter - time.Second)
			for _, id := range ids {
				if err := s.client.Delete(s.ctx, pool, id); err != nil {
					s.Error(err)
				}
			}
			for _, o := range wait() {
				if o.err != nil {
					s.Error(o.err)
				}
			}
		})
	})
}

// TestAddRefusedAtCapLeavesTime: an add that waited in vain ends before its
// context does, so that its caller can still list the pool.
func TestAddRefusedAtCapLeavesTime(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[time.Duration]time.Duration{
		time.Second: 900 * time.Millisecond, 20 * time.Second: 18 * time.Second, 10 * time.Minute: idleAfter,
	} {
		play(t, nil, func(s *scene) {
			pool, _ := fullPool(s, "openai")
			ctx, cancel := context.WithTimeout(s.ctx, timeout)
			defer cancel()
			s.ctx = ctx
			for _, o := range addWaiting(s, pool, pool)() {
				_ = s.wantKind(o.err, KindCapReached)
				if o.after != want || (want != idleAfter) != errors.Is(o.err, context.DeadlineExceeded) {
					s.Errorf("with a timeout of %s it failed after %s: %v", timeout, o.after, o.err)
				}
			}
		})
	}
}
