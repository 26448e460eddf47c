package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var (
	w1, w2 = byok.WorkspaceScope("w1"), byok.WorkspaceScope("w2")
	openai = byok.Pool{Scope: w1, ProviderID: "openai"}
)

const openaiPool = "w1/openai"

func input() AddInput {
	return AddInput{APIKey: canary, Name: ptr("  ci  ")}
}

// onAdd scripts the n-th add alone.
func onAdd(m *model, n int, a act) {
	adds := 0
	m.script = func(_ int, r *http.Request, body []byte) act {
		if !strings.HasPrefix(describe(r, body), "ADD") {
			return act{}
		}
		adds++
		if adds-1 == n {
			return a
		}
		return act{}
	}
}

func TestAddReturnsTheFullRecord(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		key, err := s.client.Add(s.ctx, openai, input())
		if err != nil {
			s.Fatal(err)
		}
		if want := s.model.keys(openaiPool)[0].Key; key.ID != want.ID || *key.Name != "ci" || key.CreatedBy == nil || key.UpdatedAt != want.UpdatedAt {
			s.Errorf("got %+v, want %+v", key, want)
		}
		s.wantRequests("GET, ADD openai, GET")
	})
}

// TestAddWhoseResponseIsLost: whatever happens to an add, the pool holds the key
// once, and the caller knows its ID.
func TestAddWhoseResponseIsLost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lost     act
		requests string // in order; settle lists are told by their number
		waited   time.Duration
	}{
		"stored, then cut": {act{cut: true}, "ADD openai, GET, REPLACE openai", 0},
		"stored, 502 of a gateway": {act{response: func(w http.ResponseWriter) { write(w, 502, "<html>"+canary) }},
			"ADD openai, GET, REPLACE openai", 0},
		"stored, 500 of the server": {act{response: func(w http.ResponseWriter) { write(w, 500, canary, "X-Request-Id: 0123abcd") }},
			"ADD openai, GET, REPLACE openai", 0},
		"stored, 200 with HTML": {act{response: func(w http.ResponseWriter) { write(w, 200, "<html>"+canary) }},
			"ADD openai, GET, REPLACE openai", 0},
		"stored, truncated response": {act{response: func(w http.ResponseWriter) { write(w, 200, `{"success":true,"key":{"id":"`, "Content-Length: 200") }},
			"ADD openai, GET, REPLACE openai", 0},
		"stored, 201 in place of 200": {act{response: func(w http.ResponseWriter) { write(w, 201, `{}`) }},
			"ADD openai, GET, REPLACE openai", 0},
		"stored, response without an ID": {act{response: func(w http.ResponseWriter) {
			write(w, 200, `{"success":true,"key":{"id":"","providerId":"openai","name":null,"maskedKey":"x","createdAt":"2026-01-02T03:04:05.000Z"}}`)
		}}, "ADD openai, GET, REPLACE openai", 0},
		"not stored, cut": {act{cut: true, skip: true}, "ADD openai, GET, GET, GET, GET, GET, ADD openai, GET", 6500 * time.Millisecond},
		"not stored, 503 of a gateway": {respond(503, canary, "Retry-After: 2"),
			"ADD openai, GET, GET, GET, GET, GET, ADD openai, GET", 8500 * time.Millisecond},
		"not stored, 500 of the server": {respond(500, canary, "X-Request-Id: 0123abcd"),
			"ADD openai, GET, ADD openai, GET", 500 * time.Millisecond},
		"not stored, rate limited": {respond(429, `{"message":"`+canary+`"}`, "Retry-After: 7"),
			"ADD openai, ADD openai, GET", 7500 * time.Millisecond},
		"stored late": {act{late: 2 * time.Second}, "ADD openai, GET, GET, GET, REPLACE openai", 2250 * time.Millisecond},
		"stored late, at the end of the lock wait": {act{late: 5 * time.Second}, "ADD openai, GET, GET, GET, GET, REPLACE openai", 5250 * time.Millisecond},
		"stored later than anyone would think": {act{late: 6100 * time.Millisecond},
			"ADD openai, GET, GET, GET, GET, GET, ADD openai, GET, DELETE openai, REPLACE openai", 6500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				onAdd(s.model, 0, tc.lost)
				s.model.seed(openaiPool, canary, "ci", time.Now().Add(-time.Hour)) // an older key that looks the same is not it
				s.look()
				start := time.Now()
				key, err := s.client.Add(s.ctx, openai, input())
				if err != nil {
					s.Fatalf("%v; requests: %s", err, s.model.requests())
				}
				if waited := time.Since(start); waited != tc.waited {
					s.Errorf("it took %s, want %s", waited, tc.waited)
				}
				s.wantRequests(tc.requests)
				time.Sleep(time.Minute)
				keys := s.model.keys(openaiPool)
				if len(keys) != 2 || keys[1].ID != key.ID || keys[1].secret != canary {
					s.Fatalf("the pool holds %d keys, of which %s was returned", len(keys), key.ID)
				}
				if key.CreatedAt != keys[1].CreatedAt || key.UpdatedAt != keys[1].UpdatedAt || key.CreatedBy == nil || *key.Name != "ci" {
					s.Errorf("the record is not complete: %+v", key)
				}
			})
		})
	}
}

func TestAddIsNotSentAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		act
		kind Kind
	}{
		"400":        {respond(400, `{"error":"Validation error","details":[{"path":["apiKey"],"message":"`+canaryJSON()+`"}]}`), KindInvalid},
		"400 HTML":   {respond(400, canary), KindProtocol},
		"401":        {respond(401, `{"error":"`+canaryJSON()+`"}`), KindUnauthorized},
		"403":        {respond(403, `{"error":"Only workspace admins can manage BYOK keys"}`), KindForbidden},
		"403 HTML":   {respond(403, canary), KindProtocol},
		"404 HTML":   {respond(404, canary), KindProtocol},
		"409":        {respond(409, `{"error":"`+canaryJSON()+`"}`), KindProtocol},
		"413":        {respond(413, `{"error":"too large"}`), KindInvalid},
		"308":        {respond(308, "/x", "Location: https://elsewhere.example/api/workspaces/w1/byok-keys"), KindRedirect},
		"302":        {respond(302, "", "Location: https://login.example/?next="+"x"), KindRedirect},
		"301 broken": {respond(301, "", "Location: http://[::1"), KindRedirect},
		"cap":        {respond(400, `{"error":"A workspace can store at most 10 keys per provider"}`), KindCapReached},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				s.look()
				onAdd(s.model, 0, tc.act)
				_, err := s.client.Add(s.ctx, openai, input())
				_ = s.wantKind(err, tc.kind)
				s.wantRequests("ADD openai")
			})
		})
	}
}

// With max_retries = 0 nothing is repeated, not even what decides about a lost
// response.
func TestConfirmationWithoutRetries(t *testing.T) {
	t.Parallel()
	for retries, want := range map[int]string{
		0: "GET, ADD openai, GET, REPLACE openai",
		1: "GET, ADD openai, GET" + strings.Repeat(", REPLACE openai", 1+1+morePersistent),
	} {
		play(t, func(c *Config) { c.MaxRetries = retries }, func(s *scene) {
			s.model.script = func(_ int, r *http.Request, _ []byte) act {
				return act{cut: r.Method == http.MethodPost}
			}
			if _, err := s.client.Add(s.ctx, openai, input()); err == nil {
				s.Error("an add whose secret could not be confirmed is reported as done")
			}
			s.wantRequests(want)
		})
	}
}

func canaryJSON() string { return strings.Trim(mustJSON(canary), `"`) }

// TestAddOfUnknownOutcome: an outcome that cannot be decided is an error that
// lists the keys, and nothing more is sent.
func TestAddOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in    AddInput
		setup func(s *scene) // before the add
		lost  func(s *scene) act
		want  int // candidates
	}{
		"two keys have appeared": {input(), nil, func(s *scene) act {
			return act{cut: true, after: func() { s.model.seed(openaiPool, canary, "ci", time.Now()) }}
		}, 2},
		"one has appeared that is older than the add": {input(), nil, func(s *scene) act {
			return act{cut: true, skip: true, after: func() { s.model.seed(openaiPool, canary, "ci", time.Now().Add(-time.Hour)) }}
		}, 1},
		"no name, and a mask that shows nothing": {AddInput{APIKey: "short"}, nil,
			func(*scene) act { return act{cut: true} }, 1},
		"the list cannot be read": {input(), func(s *scene) {
			s.look()
			s.model.script = func(_ int, r *http.Request, _ []byte) act {
				if r.Method == http.MethodGet {
					return respond(503, canary)
				}
				return act{cut: true}
			}
		}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				if tc.setup != nil {
					tc.setup(s)
				}
				if tc.lost != nil {
					onAdd(s.model, 0, tc.lost(s))
				}
				_, err := s.client.Add(s.ctx, openai, tc.in)
				e := s.wantKind(err, KindAmbiguous)
				if len(e.Candidates) != tc.want {
					s.Errorf("candidates %v, want %d; %v", e.Candidates, tc.want, err)
				}
				if n := s.model.count("ADD"); n != 1 {
					s.Errorf("%d adds were sent, want 1", n)
				}
				for _, id := range e.Candidates {
					if !strings.Contains(err.Error(), id) {
						s.Errorf("%q does not name %s", err, id)
					}
				}
			})
		})
	}
}

// TestAddTellsOthersKeysApart: keys that others store at the same moment are
// not taken for the own one.
func TestAddTellsOthersKeysApart(t *testing.T) {
	t.Parallel()
	for _, listed := range []bool{true, false} {
		play(t, nil, func(s *scene) {
			if listed {
				if _, err := s.client.List(s.ctx, w1); err != nil {
					s.Fatal(err)
				}
			}
			onAdd(s.model, 0, act{cut: true, after: func() {
				s.model.seed(openaiPool, "sk-another-secret-9999", "ci", time.Now())
				s.model.seed(openaiPool, canary, "another name", time.Now())
				s.model.seed("w1/exa", canary, "ci", time.Now())
				s.model.seed("w2/openai", canary, "ci", time.Now())
			}})
			key, err := s.client.Add(s.ctx, openai, input())
			if err != nil || key.ID != s.model.keys(openaiPool)[0].ID || s.model.count("ADD") != 1 {
				s.Errorf("%+v, %v; requests: %s", key, err, s.model.requests())
			}
		})
	}
}

// TestAddKnowsWhatWasThere: a key of before is never taken for the own one,
// however young it is and whatever the clocks say. Nothing is sent before that
// is known.
func TestAddKnowsWhatWasThere(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		theirs := s.model.seed(openaiPool, "sk-canary, but of others-0001", "ci", time.Now())
		onAdd(s.model, 0, act{skip: true, cut: true})
		key, err := s.client.Add(s.ctx, openai, input())
		if err != nil {
			s.Fatal(err)
		}
		if keys := s.model.keys(openaiPool); len(keys) != 2 || keys[1].ID != key.ID || key.ID == theirs || keys[0].secret == canary {
			s.Errorf("the pool holds %+v, got %s", keys, key.ID)
		}
	})
	play(t, nil, func(s *scene) {
		s.model.script = func(int, *http.Request, []byte) act { return respond(404, `{"error":"Workspace not found"}`) }
		_, err := s.client.Add(s.ctx, openai, input())
		if e := s.wantKind(err, KindWorkspaceNotFound); e.Op != OpList {
			s.Errorf("%+v", e)
		}
		s.wantRequests("GET")
	})
}

// TestAddOfUnknownOutcomeListsAgain: a refusal that looks final does not end the search
// for a key that may be stored.
func TestAddOfUnknownOutcomeListsAgain(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		s.look()
		lists := 0
		s.model.script = func(_ int, r *http.Request, _ []byte) act {
			switch {
			case r.Method == http.MethodGet && lists < finalRetries-1:
				lists++
				return respond(302, "", "Location: https://login.example/")
			case s.model.count("ADD") == 1 && s.model.count("GET") == 0:
				return act{cut: true}
			}
			return act{}
		}
		key, err := s.client.Add(s.ctx, openai, input())
		if err != nil || key.ID != s.model.keys(openaiPool)[0].ID || s.model.count("ADD") != 1 {
			s.Errorf("%+v, %v; requests: %s", key, err, s.model.requests())
		}
	})
}

// TestAddNeverAdoptsKeyOfAnotherAdd: identical adds side by side, each loses its first
// response, end as keys of their own.
func TestAddNeverAdoptsKeyOfAnotherAdd(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored=%t", stored), func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				var mu sync.Mutex
				cut := 0
				s.model.script = func(_ int, r *http.Request, body []byte) act {
					mu.Lock()
					defer mu.Unlock()
					if !strings.HasPrefix(describe(r, body), "ADD") {
						return act{}
					}
					cut++
					return act{cut: cut%2 == 1, skip: cut%2 == 1 && !stored}
				}
				ids := addAll(s, input(), slices.Repeat([]byok.Pool{openai}, 8)...)
				if keys := s.model.keys(openaiPool); len(keys) != 8 || len(ids) != 8 {
					s.Errorf("%d keys stored, %d IDs returned, want 8 each", len(keys), len(ids))
				}
			})
		})
	}
}

// addAll adds a key to each of pools, in parallel, and returns the distinct IDs.
func addAll(s *scene, in AddInput, pools ...byok.Pool) map[string]bool {
	s.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]bool{}
	for _, pool := range pools {
		wg.Go(func() {
			key, err := s.client.Add(s.ctx, pool, in)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.Error(err)
			}
			if key.CreatedBy == nil || key.UpdatedAt == "" {
				s.Errorf("incomplete record %+v", key)
			}
			ids[key.ID] = true
		})
	}
	wg.Wait()
	return ids
}

func TestAddsShareTheirLists(t *testing.T) {
	t.Parallel()
	for name, providerIDs := range map[string][]string{
		"one pool":  slices.Repeat([]string{"openai"}, 10),
		"ten pools": byok.ProviderIDs()[:10],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				s.model.script = func(n int, r *http.Request, _ []byte) act {
					if r.Method == http.MethodPost {
						time.Sleep(time.Duration(n%4+1) * 10 * time.Millisecond)
					}
					return act{}
				}
				var pools []byok.Pool
				for _, id := range providerIDs {
					pools = append(pools, byok.Pool{Scope: w1, ProviderID: id})
				}
				if ids := addAll(s, AddInput{APIKey: canary}, pools...); len(ids) != 10 {
					s.Errorf("%d IDs", len(ids))
				}
				// One list before, one after.
				if adds, lists := s.model.count("ADD"), s.model.count("GET"); adds != 10 || lists != 2 {
					s.Errorf("%d adds and %d lists, want 10 and 2", adds, lists)
				}
			})
		})
	}
}

func TestAddsOfOnePoolTakeTurns(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		var mu sync.Mutex
		inFlight := 0
		s.model.script = func(_ int, r *http.Request, _ []byte) act {
			if r.Method == http.MethodPost {
				mu.Lock()
				inFlight++
				if inFlight > 1 {
					s.Error("two adds to one pool at the same time")
				}
				mu.Unlock()
				time.Sleep(time.Millisecond)
				return act{after: func() { mu.Lock(); inFlight--; mu.Unlock() }}
			}
			return act{}
		}
		addAll(s, input(), slices.Repeat([]byok.Pool{openai}, 6)...)
	})
}

func fill(s *scene) []string {
	var ids []string
	for i := range byok.Cap {
		ids = append(ids, s.model.seed(openaiPool, fmt.Sprintf("sk-filler-%08d", i), "", time.Now().Add(-time.Hour)))
	}
	return ids
}

func TestAddWaitsForCapacity(t *testing.T) {
	t.Parallel()
	in := input()
	in.WaitForCapacity = true
	t.Run("own delete wakes it", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			ids := fill(s)
			done := make(chan error, 1)
			go func() { _, err := s.client.Add(s.ctx, openai, in); done <- err }()
			time.Sleep(100 * time.Millisecond)
			start := time.Now()
			if err := s.client.Delete(s.ctx, openai, ids[0]); err != nil {
				s.Fatal(err)
			}
			if err := <-done; err != nil {
				s.Fatal(err)
			}
			if waited := time.Since(start); waited != 0 {
				s.Errorf("it noticed after %s", waited)
			}
		})
	})
	t.Run("polls for deletes of others", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			fill(s)
			time.AfterFunc(20*time.Second, func() {
				s.model.mu.Lock()
				s.model.pools[openaiPool] = s.model.pools[openaiPool][1:]
				s.model.mu.Unlock()
			})
			if _, err := s.client.Add(s.ctx, openai, in); err != nil {
				s.Fatal(err)
			}
			if n := s.model.count("ADD"); n > 10 {
				s.Errorf("%d adds in 20 s", n)
			}
		})
	})
	t.Run("ends before its context, and does not hold up others", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			fill(s)
			ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					_, err := s.client.Add(ctx, openai, in)
					// Those behind the one that asks wait for capacity, too.
					if !IsKind(err, KindCapReached) || !errors.Is(err, context.DeadlineExceeded) {
						s.Errorf("got %v, want the cap and the deadline", err)
					}
				})
			}
			time.Sleep(time.Second)
			start := time.Now()
			if _, err := s.client.Add(s.ctx, byok.Pool{Scope: w1, ProviderID: "anthropic"}, input()); err != nil {
				s.Error(err)
			}
			if waited := time.Since(start); waited != 0 {
				s.Errorf("an add to another pool waited %s for its list", waited)
			}
			wg.Wait()
			if waited := time.Since(start); waited != 17*time.Second {
				s.Errorf("they gave up after %s", waited)
			}
		})
	})
}

func TestAddCanceled(t *testing.T) {
	t.Parallel()
	t.Run("in the queue", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.model.script = func(int, *http.Request, []byte) act { time.Sleep(2 * time.Second); return act{} }
			go func() { _, _ = s.client.Add(s.ctx, openai, input()) }()
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(s.ctx, time.Millisecond)
			defer cancel()
			_, err := s.client.Add(ctx, openai, input())
			_ = s.wantKind(err, KindCanceled)
			time.Sleep(time.Minute)
			if n := s.model.count("ADD"); n != 1 {
				s.Errorf("%d adds sent, want 1", n)
			}
		})
	})
	t.Run("on the wire it ends well within the grace", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.look()
			s.model.script = func(_ int, r *http.Request, _ []byte) act { time.Sleep(2 * time.Second); return act{} }
			ctx, cancel := context.WithCancel(s.ctx)
			time.AfterFunc(time.Second, cancel)
			key, err := s.client.Add(ctx, openai, input())
			if err != nil || key.ID != s.model.keys(openaiPool)[0].ID || key.UpdatedAt == "" {
				s.Errorf("got %+v, %v", key, err)
			}
		})
	})
	t.Run("on the wire of a server that hangs", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.look()
			hang := make(chan struct{})
			defer close(hang)
			s.model.script = func(int, *http.Request, []byte) act { <-hang; return act{cut: true, skip: true} }
			ctx, cancel := context.WithCancel(s.ctx)
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			_, err := s.client.Add(ctx, openai, input())
			_ = s.wantKind(err, KindAmbiguous)
			if !errors.Is(err, context.Canceled) {
				s.Errorf("%v is not context.Canceled", err)
			}
			if took := time.Since(start); took > time.Second+grace {
				s.Errorf("it took %s", took)
			}
		})
	})
	t.Run("while it settles", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			onAdd(s.model, 0, act{cut: true, skip: true})
			ctx, cancel := context.WithTimeout(s.ctx, time.Second)
			defer cancel()
			start := time.Now()
			_, err := s.client.Add(ctx, openai, input())
			_ = s.wantKind(err, KindAmbiguous)
			if took := time.Since(start); took != time.Second {
				s.Errorf("it took %s", took)
			}
		})
	})
	t.Run("while it backs off", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.look()
			s.model.script = func(int, *http.Request, []byte) act { return respond(429, "", "Retry-After: 20") }
			ctx, cancel := context.WithCancel(s.ctx)
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			_, err := s.client.Add(ctx, openai, input())
			e := s.wantKind(err, KindCanceled)
			if took := time.Since(start); took != time.Second || e.Status != 429 {
				s.Errorf("it took %s, status %d", took, e.Status)
			}
		})
	})
}

func TestAddStoredButNotReadBack(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		s.look()
		s.model.script = func(_ int, r *http.Request, _ []byte) act {
			if r.Method == http.MethodGet {
				return respond(500, canary)
			}
			return act{}
		}
		key, err := s.client.Add(s.ctx, openai, input())
		e := s.wantKind(err, KindServer)
		if key.ID == "" || e.KeyID != key.ID || e.Attempts != 5 {
			s.Errorf("got %+v, %+v", key, e)
		}
	})
}

func TestAddWithoutRetries(t *testing.T) {
	t.Parallel()
	play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
		onAdd(s.model, 0, act{cut: true, skip: true})
		_, err := s.client.Add(s.ctx, openai, input())
		_ = s.wantKind(err, KindNetwork)
		if n := s.model.count("ADD"); n != 1 {
			s.Errorf("%d adds", n)
		}
		if !strings.Contains(err.Error(), "no key was stored") {
			s.Errorf("%v", err)
		}
	})
}
