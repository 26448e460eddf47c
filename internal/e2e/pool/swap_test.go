package pool

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// watch resolves a pool until the returned function is called, and fails the
// test if at any moment it serves nothing, serves a key that was not stored
// before the call, or holds more keys than its cap.
func (w *world) watch(t *testing.T, providerID string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for resolves := 0; ; resolves++ {
			select {
			case <-done:
				if resolves == 0 {
					t.Error("the pool was never resolved")
				}
				return
			default:
			}
			before := w.stored(t, providerID)
			served := w.server.Resolve(t, w.server.WorkspaceID, providerID)
			after := w.stored(t, providerID)
			switch has := func(key byok.Key) bool { return served != nil && key.ID == served.KeyID }; {
			case served == nil:
				t.Errorf("resolve %d: the pool serves nothing", resolves)
			case !slices.ContainsFunc(before, has) && !slices.ContainsFunc(after, has):
				t.Errorf("resolve %d: a removed key (%s) is served", resolves, served.KeyID)
			}
			if len(before) > byok.Cap {
				t.Errorf("resolve %d: the pool holds %d keys", resolves, len(before))
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// All ten keys of a full pool are swapped in one apply, at any parallelism,
// while the pool serves.
func TestSwapAtTheCap(t *testing.T) {
	t.Parallel()
	for _, parallelism := range []int{1, 10} {
		t.Run(fmt.Sprint(parallelism), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			flag := fmt.Sprintf("-parallelism=%d", parallelism)
			w.configure(t, pool(openai, keys(span("a", 1, 10)...)))
			w.Apply(t, flag)
			stop := w.watch(t, openai)
			w.configure(t, pool(openai, keys(span("b", 1, 10)...)))
			w.settled(t, flag)
			stop()
			w.wantServed(t, openai, secrets(span("b", 1, 10)...)...)
			w.wantStateIsStored(t, openai, openai)
		})
	}
}

// Twenty full pools are swapped at once.
func TestSwapTwentyPools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	providers := slices.Sorted(slices.Values(byok.ProviderIDs()))[:20]
	configure := func(prefix string) {
		var b strings.Builder
		for _, providerID := range providers {
			b.WriteString(pool(providerID, keys(span(prefix, 1, 10)...)))
		}
		w.configure(t, b.String())
	}
	configure("a")
	w.Apply(t)
	configure("b")
	w.settled(t)
	for _, providerID := range providers {
		if got := w.storedNames(t, providerID); !slices.Equal(got, span("b", 1, 10)) {
			t.Errorf("%s holds %v", providerID, got)
		}
	}
}
