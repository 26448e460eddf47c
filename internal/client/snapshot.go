package client

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// snapshot is one list answer. It never changes.
type snapshot struct {
	keys  []byok.Key
	index map[string]int // key ID -> place in keys

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
	writes       uint64
	snapshot     *snapshot
	flight       *inFlight[*snapshot]
	flightCovers uint64

	pools     map[string]*pool
	replacing int
	// claimed are the IDs of the keys that this process has added.
	claimed map[string]struct{}
}

// pool is the queue of own adds to one pool.
type pool struct {
	slot chan struct{} // held by the add whose turn it is
	adds int           // adds that hold or await the slot
	// stalled: the add whose turn it is waits for something other than an
	// answer, so reads should not wait for the adds of this pool.
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
func (w *scope) change(edit func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	edit()
	close(w.changed)
	w.changed = make(chan struct{})
}

// wrote notes the end of an own write and returns what a snapshot must cover
// to show it.
func (w *scope) wrote() (covers uint64) {
	w.change(func() { w.writes++; covers = w.writes })
	return covers
}

// pool returns the queue of a provider ID. The caller holds the lock.
func (w *scope) pool(providerID string) *pool {
	p := w.pools[providerID]
	if p == nil {
		p = &pool{slot: make(chan struct{}, 1)}
		w.pools[providerID] = p
	}
	return p
}

// busy reports whether own writes are under way that want to be read back. The
// caller holds the lock.
func (w *scope) busy() bool {
	for _, p := range w.pools {
		if p.adds > 0 && !p.stalled {
			return true
		}
	}
	return w.replacing > 0
}

// current returns the newest snapshot there is, or nil.
func (w *scope) current() *snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

// read returns a snapshot that shows all own writes that have ended by now. It
// does not wait for those under way.
func (w *scope) read(ctx context.Context, retries int) (*snapshot, *failure) {
	w.mu.Lock()
	need := w.writes
	w.mu.Unlock()
	return w.readCovering(ctx, need, retries, false)
}

// readBack returns a snapshot that covers need. It waits for the other own
// writes under way first, so that one list serves them all.
func (w *scope) readBack(ctx context.Context, need uint64) (*snapshot, *failure) {
	return w.readCovering(ctx, need, w.client.cfg.MaxRetries, true)
}

func (w *scope) readCovering(ctx context.Context, need uint64, retries int, patient bool) (*snapshot, *failure) {
	for {
		w.mu.Lock()
		if s := w.snapshot; s != nil && s.covers >= need {
			w.mu.Unlock()
			return s, nil
		}
		if f := w.flight; f != nil && w.flightCovers >= need && f.join() {
			w.mu.Unlock()
			return f.wait(ctx)
		}
		if !patient || !w.busy() {
			f := w.launch(ctx, retries)
			w.mu.Unlock()
			return f.wait(ctx)
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ended(ctx)
		}
	}
}

// launch starts a list and joins it. The caller holds the lock.
func (w *scope) launch(ctx context.Context, retries int) *inFlight[*snapshot] {
	var f *inFlight[*snapshot]
	covers := w.writes
	f = launch(ctx, func(ctx context.Context) (*snapshot, *failure) {
		s, failed := w.fetch(ctx, covers, retries)
		w.mu.Lock()
		defer w.mu.Unlock()
		if failed == nil && (w.snapshot == nil || covers >= w.snapshot.covers) {
			w.snapshot = s
		}
		if w.flight == f {
			w.flight = nil // a failure is not kept
		}
		return s, failed
	})
	f.join()
	w.flight, w.flightCovers = f, covers
	return f
}

func (w *scope) fetch(ctx context.Context, covers uint64, retries int) (*snapshot, *failure) {
	s := &snapshot{covers: covers}
	s.started = time.Now()
	f := w.client.send(ctx, &request{
		op: OpList, method: http.MethodGet, path: w.path, limit: maxListBytes,
		retries: retries, persistent: retries > w.client.cfg.MaxRetries,
		decode: func(body []byte, header http.Header) (err error) {
			s.keys, err = decodeList(body, header.Get("Content-Type"))
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
