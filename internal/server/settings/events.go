package settings

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// Bounds of the streams.
const (
	// maxStreams is how many pages can watch one process at a time.
	maxStreams = 256
	// minPause bounds how often a busy rotation is sent.
	minPause = 200 * time.Millisecond
	// recheck is how often access is checked again and changes by other
	// instances are looked for.
	recheck = 5 * time.Second
	// writeTimeout is how long a browser may take to receive an event.
	writeTimeout = 10 * time.Second
)

// stream sends the state of the keys, and then whatever changes of it, as
// server-sent events, for as long as the user may see it.
func (p *Pages) stream(w http.ResponseWriter, r *http.Request) {
	user, _, err := p.api.Session(r)
	var v visit
	if err == nil {
		note(w, user.ID, nil)
		v, err = p.visit(r, user)
	}
	if err != nil {
		p.writeJSON(w, r, user.ID, nil, err)
		return
	}
	if !p.enter() {
		w.Header().Set("Retry-After", "30")
		p.writeJSON(w, r, user.ID, nil, errTooManyStreams)
		return
	}
	defer p.leave()
	changed, stop := p.api.Activity.Watch(v.owner)
	defer stop()

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.streams, cancel)()
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Time{}) // the request has been read; its timeout would end the stream
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)

	sent := map[string][]byte{}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-tick.C:
				if again, _, err := p.api.StoredSession(r); err != nil || again.ID != user.ID {
					return
				}
			}
			if v, err = p.visit(r, user); err != nil {
				return
			}
		}
		event, err := p.event(ctx, v, sent, first)
		if err != nil {
			note(w, user.ID, err)
			return
		}
		_ = connection.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(event); err != nil { //nolint:gosec // JSON, sent as an event stream
			return
		}
		if err := connection.Flush(); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(minPause):
		}
	}
}

var errTooManyStreams = errors.New("too many pages are open")

// restKey is where sent holds what is of no pool; no provider ID is empty.
const restKey = ""

func (p *Pages) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= maxStreams {
		return false
	}
	p.open++
	return true
}

func (p *Pages) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
}

// event returns the next event: the pools that are not as they were sent, or
// that none is, by which the page knows that the server is there.
func (p *Pages) event(ctx context.Context, v visit, sent map[string][]byte, first bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, database.Deadline)
	defer cancel()
	s, err := p.state(ctx, v)
	if err != nil {
		return nil, err
	}
	for id := range sent {
		if _, held := s.Pools[id]; !held && id != restKey {
			delete(sent, id)
			s.Pools[id] = nil
		}
	}
	for id, shown := range s.Pools {
		if shown == nil {
			continue
		}
		text, err := json.Marshal(shown)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(sent[id], text) {
			delete(s.Pools, id)
			continue
		}
		sent[id] = text
	}
	rest, err := json.Marshal([]any{s.Can, s.Covered})
	if err != nil {
		return nil, err
	}
	if !first && len(s.Pools) == 0 && bytes.Equal(sent[restKey], rest) {
		return []byte("event: unchanged\ndata: {}\n\n"), nil
	}
	sent[restKey] = rest
	s.Whole = first
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "event: state\ndata: %s\n\n", text), nil
}
