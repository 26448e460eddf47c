package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// The API has no idempotency key, and a repeated add makes a second key
// (WIRE.md section 12). An add is therefore sent again only when it is certain
// that the one before stored nothing:
//
//   - The adds of one process to one pool go one after the other, so that a
//     new key in a list can be told from those of other adds.
//   - A refusal (4xx), or a connection that broke before the request was
//     sent, stored nothing.
//   - Anything else is looked up: a key in the list with the same provider ID,
//     name and mask, that no earlier list shows and that no other add
//     has, is the one. It is adopted, and replaced by itself, since a mask does not show
//     all of a secret.
//   - A list without it counts only if the server had finished with the add,
//     or had the settle time to do so.
//   - If the first add is stored even later, beside the second one, the list
//     that every add reads back shows both, and one of the two is removed.
//   - What cannot be decided is KindAmbiguous, with the IDs.

const (
	// morePersistent is how much more often than others the requests that
	// decide about a lost response are repeated: without them it is ambiguous.
	morePersistent = 6
	// finalRetries is how often such a list is requested where it is refused
	// for good, as by a gateway that redirects.
	finalRetries = 5
	// clockTolerance is how far two clocks of one deployment may differ.
	clockTolerance = 5 * time.Minute
	// maxCapacityPoll is the longest pause between two attempts to find free capacity.
	maxCapacityPoll = 5 * time.Second
)

// persistentRetries is how often a request that decides about a lost response is
// repeated: never where the user wants no retries.
func (c *Client) persistentRetries() int {
	if c.cfg.MaxRetries == 0 {
		return 0
	}
	return c.cfg.MaxRetries + morePersistent
}

// adding is one Add under way. It holds its pool's slot.
type adding struct {
	c     *Client
	scope *scope
	p     *pool
	write *writeContext
	// waiting ends before write does, and bounds the wait for capacity: what
	// is left is for the caller to find out what fills the pool.
	waiting  context.Context
	deadlock *deadlock // ends the wait for capacity, too

	pool byok.Pool
	in   AddInput
	name string // as stored; empty for none
	mask string
	body []byte

	before *snapshot // of before the first attempt
	sentAt time.Time // of the first attempt
	lost   int       // attempts whose response was lost
	sent   int
}

// Add stores a new key and returns its full record. When the response is lost,
// it finds out whether the key was stored before it sends it again.
//
// A key that comes with an error is stored: record its ID, only the rest of
// the record is incomplete. An interrupt lets an add that is being sent end,
// for 5 seconds at most.
func (c *Client) Add(ctx context.Context, pool byok.Pool, in AddInput) (byok.Key, error) {
	fail := func(key byok.Key, f *failure) (byok.Key, error) {
		return key, c.fail(OpAdd, pool, key.ID, f)
	}
	if f := checkIDs(pool, nil); f != nil {
		return fail(byok.Key{}, f)
	}
	defer c.calls.begin()()
	body, err := json.Marshal(byok.SaveRequest{ProviderID: pool.ProviderID, APIKey: in.APIKey, Name: in.Name})
	if err != nil {
		return fail(byok.Key{}, &failure{kind: KindInvalid})
	}
	a := &adding{c: c, scope: c.scope(pool.Scope), pool: pool, in: in, body: body, mask: byok.Mask(in.APIKey), write: newWriteContext(ctx, grace)}
	defer a.write.close()
	var stopWaiting context.CancelFunc
	a.waiting, stopWaiting = waitingContext(a.write)
	defer stopWaiting()
	if in.Name != nil {
		a.name = byok.TrimName(*in.Name)
	}

	key, complete, covers, f := a.runInTurn()
	if f != nil {
		err := c.fail(OpAdd, pool, key.ID, f)
		err.Unconfirmed = key.ID != "" // it is stored, but perhaps with another secret, or twice
		return key, err
	}
	if complete || in.SkipRecord {
		return key, nil
	}
	s, f := a.scope.readBack(a.write, covers)
	if f != nil {
		f = &failure{kind: f.kind, status: f.status, requestID: f.requestID, url: f.url, attempts: f.attempts, err: f.err, op: f.op,
			detail: "the key is stored, but the list with its full record could not be read"}
		return fail(key, f)
	}
	return a.record(s, key)
}

// runInTurn waits for the pool's slot and runs the add in it. complete means
// that the record needs no list any more; covers is what such a list has to cover.
func (a *adding) runInTurn() (key byok.Key, complete bool, covers uint64, f *failure) {
	a.scope.change(func() {
		a.p = a.scope.pool(a.pool.ProviderID)
		a.p.adds++
	})
	// The write ends with the turn, in one step: callers that wait for the end
	// of all turns must find all writes counted.
	defer a.scope.change(func() {
		a.p.adds--
		a.scope.writes++
		covers = a.scope.writes
	})
	var leave func()
	a.deadlock, leave = a.c.calls.enqueue(a.pool)
	defer leave()
	if f := a.takeSlot(); f != nil {
		return byok.Key{}, false, 0, f
	}
	defer func() { <-a.p.slot }()
	defer a.c.calls.setFull(a.pool, false)
	key, complete, f = a.run()
	if f != nil {
		f = a.explainTimeout(f)
		f.attempts = a.sent
	}
	return key, complete, 0, f
}

// takeSlot waits for the pool's slot. Behind an add that waits for capacity,
// it waits for capacity as well.
func (a *adding) takeSlot() *failure {
	waiting, deadlock := a.waiting.Done(), a.deadlock.closed
	if !a.in.WaitForCapacity {
		waiting, deadlock = nil, nil
	}
	for {
		select {
		case <-deadlock:
			return a.refusedAtCap(&failure{kind: KindCapReached, refused: true}, a.deadlock.waiting, nil)
		case <-a.write.Done():
			return a.explainTimeout(ended(a.write))
		default:
		}
		select {
		case a.p.slot <- struct{}{}:
			if a.write.parent.Err() != nil {
				<-a.p.slot
				return a.explainTimeout(ended(a.write))
			}
			return nil
		case <-deadlock:
		case <-a.write.Done():
		case <-waiting:
			waiting = nil
			timeout := &failure{kind: KindCanceled, refused: true, err: context.DeadlineExceeded}
			if f := a.explainTimeout(timeout); f != timeout {
				return f
			}
		}
	}
}

// refusedAtCap returns the pool's refusal at the cap, or f where there is none
// any more.
func (a *adding) refusedAtCap(f *failure, waiting int, err error) *failure {
	a.scope.mu.Lock()
	defer a.scope.mu.Unlock()
	refused := *f
	if a.p.full != nil {
		refused = *a.p.full
		refused.err = err
	}
	refused.waiting = waiting
	return &refused
}

// explainTimeout returns f, or the pool's refusal at the cap where that is why
// time ran out: the adds behind one that waits for capacity wait for it, too.
func (a *adding) explainTimeout(f *failure) *failure {
	if f.kind != KindCanceled || !f.refused || !a.in.WaitForCapacity || !errors.Is(f.err, context.DeadlineExceeded) {
		return f
	}
	a.scope.mu.Lock()
	full := a.p.full != nil
	a.scope.mu.Unlock()
	if !full {
		return f
	}
	return a.refusedAtCap(f, 0, f.err)
}

// run sends the add until its outcome is certain.
func (a *adding) run() (key byok.Key, complete bool, f *failure) {
	if f := a.listBefore(); f != nil {
		return byok.Key{}, false, f
	}
	a.sentAt = time.Now()
	for polls := 0; ; {
		freed := a.freed()
		key, f = a.send()
		switch {
		case f == nil && a.lost == 0:
			return key, false, nil
		case f == nil:
			return a.checkDuplicate(key)
		case f.kind == KindCapReached && a.in.WaitForCapacity:
			a.scope.change(func() {
				if a.p.freed == freed {
					full := *f
					a.p.full = &full
				}
			})
			if a.awaitCapacity(freed, polls, f); f.err != nil || f.waiting > 0 {
				return byok.Key{}, false, f
			}
			polls++
			continue
		case f.refused:
			return byok.Key{}, false, f
		}

		a.lost++
		found, open := a.resolve(f)
		switch {
		case open != nil:
			return byok.Key{}, false, open
		case found != nil:
			return a.adopt(*found)
		}
		a.write.release() // certain: nothing was stored
		if a.lost > a.c.cfg.MaxRetries || a.write.parent.Err() != nil {
			if a.write.parent.Err() != nil {
				f.kind, f.err = KindCanceled, a.write.parent.Err()
			}
			f.detail = joinDetail(f.detail, "no key was stored")
			return byok.Key{}, false, f
		}
		if over := a.pause(a.c.backoff(a.lost-1, f.wait)); over != nil {
			return byok.Key{}, false, over
		}
	}
}

// send sends the add once, and again only where the attempt before was
// refused for the moment or never left.
func (a *adding) send() (byok.Key, *failure) {
	var key byok.Key
	f := a.c.send(a.write, &request{
		op: OpAdd, scope: a.pool.Scope.Kind, method: http.MethodPost, path: a.scope.path, body: a.body, limit: maxResponseBytes, retries: a.c.cfg.MaxRetries, until: deadline(a.write),
		again: func(f *failure) bool { return f.refused },
		decode: func(body []byte, header http.Header) (err error) {
			if key, err = decodeAdded(body, header.Get("Content-Type"), a.pool); err == nil && !a.isNew(key.ID) {
				err = errors.New("it is for a key that was there before")
			}
			return err
		},
	})
	if f != nil {
		a.sent += f.attempts
		return byok.Key{}, f
	}
	a.sent++
	a.claim(key.ID)
	return key, nil
}

// resolve finds out what became of an add whose response was lost: the key that
// it stored, nil when it certainly stored none, or the failure to decide.
func (a *adding) resolve(lost *failure) (*byok.Key, *failure) {
	a.setStalled(true)
	defer a.setStalled(false)
	failedAt := time.Now()
	for pause := a.c.cfg.SettleTime / 8; ; pause *= 2 {
		s, f := a.list()
		if f != nil {
			return nil, a.ambiguous(lost, nil, "and the list that would show it could not be read")
		}
		certain, possible := a.candidates(s)
		switch {
		case len(certain) == 1 && len(possible) == 0:
			return &certain[0], nil
		case len(certain)+len(possible) > 0:
			return nil, a.ambiguous(lost, append(certain, possible...), "and the list shows keys that may be it")
		}
		settled := failedAt.Add(a.c.cfg.SettleTime)
		if lost.finished || !s.started.Before(settled) {
			return nil, nil
		}
		if a.write.parent.Err() != nil {
			return nil, a.ambiguous(lost, nil, "and the operation ended before the server was certainly done with it")
		}
		// An interrupt ends the pause, then one more list decides.
		_ = sleep(a.write.parent, min(pause, max(time.Until(settled), time.Millisecond)))
	}
}

// listBefore notes which keys are there before the add, so that none of them
// is taken for its outcome. One list serves all adds of a Client to the
// scope.
func (a *adding) listBefore() (f *failure) {
	if a.before, f = a.scope.readCovering(a.write, 0, readOptions{retries: a.c.cfg.MaxRetries, until: deadline(a.write)}); f == nil {
		return nil
	}
	a.sent += f.attempts
	failed := *f // a failure of a list is shared
	failed.op, failed.refused = cmp.Or(f.op, OpList), true
	return &failed
}

// list reads a list that starts now. Without it the add is ambiguous, so a
// refusal that looks final is repeated, too: the list of before had a response.
func (a *adding) list() (s *snapshot, f *failure) {
	for n := range finalRetries {
		s, f = a.scope.readCovering(a.write, a.scope.noteWrite(), readOptions{retries: a.c.persistentRetries(), until: deadline(a.write)})
		if f == nil || f.transient || sleep(a.write, a.c.backoff(n, f.wait)) != nil {
			break
		}
	}
	return s, f
}

// candidates are the keys in s that the add may have stored: those that it
// certainly has, and those where age or mask leave it open.
func (a *adding) candidates(s *snapshot) (certain, possible []byok.Key) {
	for _, key := range s.keys {
		name := ""
		if key.Name != nil {
			name = *key.Name
		}
		if key.ProviderID != a.pool.ProviderID || key.MaskedKey != a.mask || name != a.name || !a.isNew(key.ID) {
			continue
		}
		if a.mask == byok.MaskUnknown && a.name == "" || a.isOld(s, key) {
			possible = append(possible, key)
			continue
		}
		certain = append(certain, key)
	}
	return certain, possible
}

// isOld reports whether key, which was not there before, seems to be older
// than the add all the same: another user may have stored it since the list
// of before. It compares createdAt with the Date of the list, less the time that
// has passed here.
func (a *adding) isOld(s *snapshot, key byok.Key) bool {
	created, err := time.Parse(time.RFC3339, key.CreatedAt)
	return err == nil && !s.date.IsZero() && created.Before(s.date.Add(a.sentAt.Sub(s.received)).Add(-clockTolerance))
}

// adopt makes certain that the key that was found holds the declared secret.
func (a *adding) adopt(found byok.Key) (byok.Key, bool, *failure) {
	a.claim(found.ID)
	replaced, f := a.c.replace(a.write, a.scope, OpAdd, a.pool.ProviderID, ReplaceInput{KeyID: found.ID, APIKey: a.in.APIKey, Name: &a.name},
		a.c.persistentRetries())
	a.scope.noteWrite()
	switch {
	case f.is(KindKeyNotFound):
		f.detail = "it was stored, but then removed by another user"
		return byok.Key{}, false, f
	case f != nil:
		f.detail = joinDetail(f.detail, "the key is stored, but its secret could not be confirmed")
		return found, false, f
	}
	replaced.CreatedAt, replaced.CreatedBy = found.CreatedAt, found.CreatedBy
	return replaced, true, nil
}

// checkDuplicate finds out whether an add that was given up has been stored
// after all, beside the one that was sent in its place. The key of the second
// add is certainly our own, so it is removed; the other one is then adopted.
func (a *adding) checkDuplicate(key byok.Key) (byok.Key, bool, *failure) {
	s, f := a.list()
	if f != nil {
		return key, false, a.ambiguous(f, nil, "the key is stored, but the list that would show whether twice could not be read")
	}
	certain, possible := a.candidates(s)
	switch {
	case len(certain)+len(possible) == 0:
		full, err := a.record(s, key)
		if err != nil {
			return key, false, nil //nolint:nilerr // the list that every add reads back decides
		}
		return full, true, nil
	case len(certain) == 1 && len(possible) == 0:
		if f := a.c.remove(a.write, a.scope, OpAdd, key.ProviderID, key.ID, a.c.persistentRetries()); f == nil || f.kind == KindKeyNotFound {
			return a.adopt(certain[0])
		}
	}
	return key, false, a.ambiguous(&failure{}, append(certain, possible...), "the key is stored, perhaps twice")
}

// record completes key from a list.
func (a *adding) record(s *snapshot, key byok.Key) (byok.Key, error) {
	full, ok := s.key(key.ID)
	if !ok {
		return key, a.c.fail(OpAdd, a.pool, key.ID, &failure{kind: KindKeyNotFound, attempts: a.sent,
			detail: "the server confirmed it, but the list does not show it; another user may have removed it"})
	}
	return full, nil
}

func (a *adding) ambiguous(lost *failure, candidates []byok.Key, why string) *failure {
	f := &failure{kind: KindAmbiguous, status: lost.status, requestID: lost.requestID, url: lost.url, detail: joinDetail(lost.detail, why)}
	if a.write.parent.Err() != nil {
		f.err = a.write.parent.Err()
	}
	for _, key := range candidates {
		f.candidates = append(f.candidates, key.ID)
	}
	return f
}

// isNew reports whether no other add has the key and no earlier list shows it.
func (a *adding) isNew(keyID string) bool {
	if _, known := a.before.key(keyID); known {
		return false
	}
	a.scope.mu.Lock()
	defer a.scope.mu.Unlock()
	_, claimed := a.scope.claimed[keyID]
	return !claimed
}

func (a *adding) claim(keyID string) {
	a.scope.change(func() {
		a.scope.claimed[keyID] = struct{}{}
		a.p.full = nil
	})
}

func (a *adding) freed() uint64 {
	a.scope.mu.Lock()
	defer a.scope.mu.Unlock()
	return a.p.freed
}

func (a *adding) setStalled(stalled bool) {
	a.scope.change(func() { a.p.stalled = stalled })
}

func (a *adding) pause(d time.Duration) *failure {
	a.setStalled(true)
	defer a.setStalled(false)
	return sleep(a.write, d)
}

// awaitCapacity returns when a key of the pool has been deleted since freed
// was read, or when it is time to ask again: others delete, too. Where there is
// no more to wait for, it notes why in f, the refusal.
func (a *adding) awaitCapacity(freed uint64, polls int, f *failure) {
	a.setStalled(true)
	defer a.setStalled(false)
	timer := time.NewTimer(min(maxCapacityPoll, max(a.c.cfg.RetryWaitMin<<min(polls, 10), 10*time.Millisecond)))
	defer timer.Stop()
	for {
		a.scope.mu.Lock()
		current, changed := a.p.freed, a.scope.changed
		a.scope.mu.Unlock()
		if current != freed {
			a.c.calls.setFull(a.pool, false)
			return
		}
		a.c.calls.setFull(a.pool, true)
		select {
		case <-changed:
			continue
		case <-timer.C:
			return
		case <-a.deadlock.closed:
			f.waiting = a.deadlock.waiting
		case <-a.waiting.Done():
			if f.err = context.DeadlineExceeded; a.write.parent.Err() != nil {
				f.err = a.write.parent.Err()
			}
		}
		return
	}
}

// maxExplaining is the most of an add's time that is kept for its caller to
// find out what fills the pool.
const maxExplaining = 5 * time.Second

// waitingContext bounds the wait for capacity of an add.
func waitingContext(write *writeContext) (context.Context, context.CancelFunc) {
	end := deadline(write)
	if end.IsZero() {
		return context.WithCancel(write)
	}
	return context.WithDeadline(write, end.Add(-min(maxExplaining, time.Until(end)/10)))
}

func joinDetail(first, second string) string {
	if first == "" {
		return second
	}
	return first + ", " + second
}
