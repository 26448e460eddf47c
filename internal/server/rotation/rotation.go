// Package rotation is the round-robin over a pool. It gets a pool and
// something that opens a sealed key; it knows neither HTTP nor SQL. The API's
// resolve route is its only caller. WIRE.md section 8.
package rotation

import (
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Rotation holds one cursor per pool. Cursors live in memory alone: a restart
// begins again at the first key, and every process rotates by itself. It is
// safe for concurrent use.
type Rotation struct {
	mu      sync.Mutex
	cursors map[keystore.Pool]uint64
}

// New returns a Rotation with every cursor at zero.
func New() *Rotation { return &Rotation{cursors: map[keystore.Pool]uint64{}} }

// Next returns the index of the key that serves this call: the one under the
// pool's cursor, or the first after it, wrapping, that opens. It returns -1
// when size is 0, which leaves the cursor alone, and when none opens, which
// moves it. open is called at most once per key.
//
// The cursor is absolute (the number of earlier calls) and moves by exactly
// one per call, so the successor of a key that does not open is served twice
// per cycle, and a pool that grows or shrinks shifts.
func (r *Rotation) Next(pool keystore.Pool, size int, open func(index int) bool) int {
	if size == 0 {
		return -1
	}
	r.mu.Lock()
	start := r.cursors[pool]
	r.cursors[pool] = start + 1
	r.mu.Unlock()

	for step := range uint64(size) { //nolint:gosec // positive
		if index := int((start + step) % uint64(size)); open(index) { //nolint:gosec // below size, an int
			return index
		}
	}
	return -1
}
