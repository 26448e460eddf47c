package client

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// snapshot is one list response. It never changes.
type snapshot struct {
	keys  []byok.Key
	index map[string]int // key ID -> place in keys
	// entitled: keys can be added. Only organizations may not be.
	entitled bool

	// covers counts the own writes in this scope that had ended before
	// the list started, so that it shows them.
	covers   uint64
	started  time.Time
	received time.Time
	date     time.Time // of the server's Date header; zero without one
}

func (s *snapshot) key(id string) (byok.Key, bool) {
	i, ok := s.index[id]
	if !ok {
		return byok.Key{}, false
	}
	return s.keys[i], true
}

// scope is what a Client knows and does about one workspace or organization.
type scope struct {
	client *Client
	id     byok.Scope
	path   string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever a field below changes
	// writes counts own writes that have ended, whatever came of them.
	writes        uint64
	snapshot      *snapshot
	listing       *inFlight[*snapshot]
	listingCovers uint64

	pools     map[string]*pool
	replacing int
	// claimed are the IDs of the keys that this process has added.
	claimed map[string]struct{}
}

// pool is the queue of own adds to one pool.
type pool struct {
	slot chan struct{} // held by the add whose turn it is
	adds int           // adds that hold or await the slot
	// stalled: the add whose turn it is waits for something other than a
	// response, so reads should not wait for the adds of this pool.
	stalled bool
	freed   uint64 // own deletes so far
	// full is the newest refusal at the cap, unless the pool has changed
	// since.
	full *failure
}

func newScope(c *Client, id byok.Scope) *scope {
	return &scope{
		client: c, id: id, path: id.KeysPath(),
		changed: make(chan struct{}), pools: map[string]*pool{}, claimed: map[string]struct{}{},
	}
}

// change runs edit under the lock and wakes all who wait for a change.
func (sc *scope) change(edit func()) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	edit()
	close(sc.changed)
	sc.changed = make(chan struct{})
}

// noteWrite notes the end of an own write and returns what a snapshot must cover
// to show it.
func (sc *scope) noteWrite() (covers uint64) {
	sc.change(func() { sc.writes++; covers = sc.writes })
	return covers
}

// pool returns the queue of a provider ID. The caller holds the lock.
func (sc *scope) pool(providerID string) *pool {
	p := sc.pools[providerID]
	if p == nil {
		p = &pool{slot: make(chan struct{}, 1)}
		sc.pools[providerID] = p
	}
	return p
}

// busy reports whether own writes are under way that want to be read back. The
// caller holds the lock.
func (sc *scope) busy() bool {
	for _, p := range sc.pools {
		if p.adds > 0 && !p.stalled {
			return true
		}
	}
	return sc.replacing > 0
}

// current returns the newest snapshot there is, or nil.
func (sc *scope) current() *snapshot {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.snapshot
}

// read returns a snapshot that shows all own writes that have ended by now. It
// does not wait for those under way.
func (sc *scope) read(ctx context.Context, retries int) (*snapshot, *failure) {
	sc.mu.Lock()
	need := sc.writes
	sc.mu.Unlock()
	return sc.readCovering(ctx, need, readOptions{retries: retries})
}

// readBack returns a snapshot that covers need. It waits for the other own
// writes under way first, so that one list serves them all.
func (sc *scope) readBack(ctx context.Context, need uint64) (*snapshot, *failure) {
	return sc.readCovering(ctx, need, readOptions{retries: sc.client.cfg.MaxRetries, until: deadline(ctx), waitForWrites: true})
}

// readOptions are how a list is read.
type readOptions struct {
	retries int
	until   time.Time // as in request
	// waitForWrites waits for own writes in flight, which want to be read
	// back, too.
	waitForWrites bool
}

func (sc *scope) readCovering(ctx context.Context, need uint64, options readOptions) (*snapshot, *failure) {
	for {
		sc.mu.Lock()
		if s := sc.snapshot; s != nil && s.covers >= need {
			sc.mu.Unlock()
			return s, nil
		}
		if f := sc.listing; f != nil && sc.listingCovers >= need && f.join() {
			sc.mu.Unlock()
			return f.wait(ctx)
		}
		if !options.waitForWrites || !sc.busy() {
			f := sc.launch(ctx, options)
			sc.mu.Unlock()
			return f.wait(ctx)
		}
		changed := sc.changed
		sc.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ended(ctx)
		}
	}
}

// launch starts a list and joins it. The caller holds the lock.
func (sc *scope) launch(ctx context.Context, options readOptions) *inFlight[*snapshot] {
	var f *inFlight[*snapshot]
	covers := sc.writes
	f = launch(ctx, func(ctx context.Context) (*snapshot, *failure) {
		s, failed := sc.fetch(ctx, covers, options)
		sc.mu.Lock()
		defer sc.mu.Unlock()
		if failed == nil && (sc.snapshot == nil || covers >= sc.snapshot.covers) {
			sc.snapshot = s
		}
		if sc.listing == f {
			sc.listing = nil // a failure is not kept
		}
		return s, failed
	})
	f.join()
	sc.listing, sc.listingCovers = f, covers
	return f
}

func (sc *scope) fetch(ctx context.Context, covers uint64, options readOptions) (*snapshot, *failure) {
	s := &snapshot{covers: covers}
	s.started = time.Now()
	f := sc.client.send(ctx, &request{
		op: OpList, scope: sc.id.Kind, method: http.MethodGet, path: sc.path, limit: maxListBytes,
		retries: options.retries, persistent: options.retries > sc.client.cfg.MaxRetries, until: options.until,
		decode: func(body []byte, header http.Header) error {
			list, err := decodeList(body, header.Get("Content-Type"))
			s.keys, s.entitled = list.Keys, list.Entitled == nil || *list.Entitled
			s.received = time.Now()
			s.date, _ = http.ParseTime(header.Get("Date"))
			return err
		},
	})
	if f != nil {
		return nil, f
	}
	s.index = make(map[string]int, len(s.keys))
	for i, key := range s.keys {
		s.index[key.ID] = i
	}
	return s, nil
}
