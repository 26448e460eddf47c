package rotation

import (
	"maps"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Activity counts what the rotation of this process served, for people to look
// at. It knows no secrets. It is safe for concurrent use.
type Activity struct {
	// Since is when this process began to count.
	Since time.Time

	mu       sync.Mutex
	pools    map[keystore.Pool]map[string]Uses
	watchers map[keystore.Owner]map[chan struct{}]struct{}
}

// Uses is how often a key has served, and when last.
type Uses struct {
	Count uint64
	Last  time.Time
}

// maxCounted bounds the keys that are counted in a pool, deleted ones among
// them: above it, the one that served longest ago is forgotten.
const maxCounted = 32

// NewActivity returns an Activity that counts from now on.
func NewActivity(since time.Time) *Activity {
	return &Activity{
		Since: since,
		pools: map[keystore.Pool]map[string]Uses{}, watchers: map[keystore.Owner]map[chan struct{}]struct{}{},
	}
}

// Served counts one use of a key.
func (a *Activity) Served(pool keystore.Pool, keyID string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := a.pools[pool]
	if keys == nil {
		keys = map[string]Uses{}
		a.pools[pool] = keys
	}
	if _, known := keys[keyID]; !known && len(keys) >= maxCounted {
		forgetOldest(keys)
	}
	keys[keyID] = Uses{Count: keys[keyID].Count + 1, Last: at}
	a.notify(pool.Owner)
}

func forgetOldest(keys map[string]Uses) {
	oldest := ""
	for id, uses := range keys {
		if oldest == "" || uses.Last.Before(keys[oldest].Last) {
			oldest = id
		}
	}
	delete(keys, oldest)
}

// Pool returns what was counted in a pool, by key ID.
func (a *Activity) Pool(pool keystore.Pool) map[string]Uses {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.pools[pool])
}

// Watch returns a channel that receives when something happened to the pools of
// an owner, several events at once as one. stop ends it.
func (a *Activity) Watch(owner keystore.Owner) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watchers[owner] == nil {
		a.watchers[owner] = map[chan struct{}]struct{}{}
	}
	a.watchers[owner][c] = struct{}{}
	return c, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.watchers[owner], c); len(a.watchers[owner]) == 0 {
			delete(a.watchers, owner)
		}
	}
}

// Changed tells those who watch an owner that its keys changed.
func (a *Activity) Changed(owner keystore.Owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notify(owner)
}

func (a *Activity) notify(owner keystore.Owner) {
	for c := range a.watchers[owner] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Upcoming returns the index of the key that Next would return now, and -1
// where none opens. It moves nothing.
func (r *Rotation) Upcoming(pool keystore.Pool, size int, opens func(index int) bool) int {
	r.mu.Lock()
	start := r.cursors[pool]
	r.mu.Unlock()
	for step := range uint64(size) { //nolint:gosec // positive
		if index := int((start + step) % uint64(size)); opens(index) { //nolint:gosec // below size, an int
			return index
		}
	}
	return -1
}
