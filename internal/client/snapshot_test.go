package client

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func TestSnapshotIsShared(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		var ids []string
		for i := range 10 {
			ids = append(ids, s.model.seed(openaiPool, fmt.Sprintf("sk-shared-%08d", i), "", time.Now()))
		}
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				if key, err := s.client.Key(s.ctx, w1, id); err != nil || key.ID != id {
					s.Errorf("%+v, %v", key, err)
				}
				if keys, err := s.client.List(s.ctx, w1); err != nil || len(keys) != 10 || keys[0].ID != ids[0] {
					s.Errorf("%d keys, %v", len(keys), err)
				}
			})
		}
		wg.Wait()
		_, err := s.client.Key(s.ctx, w1, "key-unknown")
		_ = s.wantKind(err, KindKeyNotFound)
		keys, _ := s.client.List(s.ctx, w1)
		keys[0].ID = "changed by the caller"
		if again, _ := s.client.List(s.ctx, w1); again[0].ID != ids[0] {
			s.Error("callers share the slice")
		}
		if _, err := s.client.List(s.ctx, w2); err != nil {
			s.Error(err)
		}
		s.wantRequests("GET, GET")
	})
}

// TestReadsSeeOwnWrites: a read after a write never shows less than it, even
// when a list was under way while the write was.
func TestReadsSeeOwnWrites(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		id := s.model.seed(openaiPool, "sk-first-secret-01", "", time.Now())
		s.model.script = func(n int, _ *http.Request, _ []byte) act {
			if n == 0 { // the list that starts before the delete, and ends after it
				return act{after: func() { time.Sleep(time.Second) }}
			}
			return act{}
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = s.client.List(s.ctx, w1) })
		time.Sleep(100 * time.Millisecond)
		if err := s.client.Delete(s.ctx, openai, id); err != nil {
			s.Fatal(err)
		}
		_, err := s.client.Key(s.ctx, w1, id)
		_ = s.wantKind(err, KindKeyNotFound)
		wg.Wait()
		// The older list must not come back in place of the newer one.
		_, err = s.client.Key(s.ctx, w1, id)
		_ = s.wantKind(err, KindKeyNotFound)
		s.wantRequests("GET, DELETE openai, GET")
	})
}

func TestReplaceReadsOnlyWhatItLacks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prior, listed bool
		requests      string
	}{
		"nothing known": {false, false, "REPLACE openai, GET"},
		"prior record":  {true, false, "REPLACE openai"},
		"listed before": {false, true, "GET, REPLACE openai"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				id := s.model.seed(openaiPool, "sk-first-secret-01", "old", time.Now().Add(-time.Hour))
				stored := s.model.keys(openaiPool)[0].Key
				in := ReplaceInput{KeyID: id, APIKey: canary}
				if tc.prior {
					in.Prior = &stored
				}
				if tc.listed {
					if _, err := s.client.List(s.ctx, w1); err != nil {
						s.Fatal(err)
					}
				}
				key, err := s.client.Replace(s.ctx, openai, in)
				if err != nil {
					s.Fatal(err)
				}
				if key.CreatedAt != stored.CreatedAt || *key.CreatedBy != *stored.CreatedBy || *key.Name != "old" || key.UpdatedAt == stored.UpdatedAt || key.MaskedKey != byok.Mask(canary) {
					s.Errorf("%+v", key)
				}
				s.wantRequests(tc.requests)
			})
		})
	}
	t.Run("ten share one list", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			var wg sync.WaitGroup
			for i := range 10 {
				id := s.model.seed(openaiPool, fmt.Sprintf("sk-shared-%08d", i), "", time.Now())
				wg.Go(func() {
					if _, err := s.client.Replace(s.ctx, openai, ReplaceInput{KeyID: id, APIKey: canary}); err != nil {
						s.Error(err)
					}
				})
			}
			wg.Wait()
			if n := s.model.count("GET"); n > 2 {
				s.Errorf("%d lists for ten replaces", n)
			}
		})
	})
}

func TestListFailuresAreNotKept(t *testing.T) {
	t.Parallel()
	play(t, func(c *Config) { c.MaxRetries = 0 }, func(s *scene) {
		s.model.script = func(n int, _ *http.Request, _ []byte) act {
			if n == 0 {
				return respond(500, canary)
			}
			return act{}
		}
		_, err := s.client.List(s.ctx, w1)
		_ = s.wantKind(err, KindServer)
		if _, err := s.client.List(s.ctx, w1); err != nil {
			s.Error(err)
		}
	})
}

// TestReaderThatGivesUp leaves the others their list, and the last one who
// does stops it.
func TestReaderThatGivesUp(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		gone := make(chan struct{})
		s.model.script = func(n int, r *http.Request, _ []byte) act {
			if n == 1 {
				<-r.Context().Done()
				close(gone)
			}
			time.Sleep(2 * time.Second)
			return act{}
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(s.ctx, time.Duration(i+1)*time.Second+time.Millisecond)
				defer cancel()
				_, err := s.client.List(ctx, w1)
				if (err != nil) != (i < 1) || err != nil && !IsKind(err, KindCanceled) {
					s.Errorf("reader %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		ctx, cancel := context.WithTimeout(s.ctx, time.Second)
		defer cancel()
		_, err := s.client.List(ctx, w2)
		_ = s.wantKind(err, KindCanceled)
		start := time.Now()
		<-gone
		if waited := time.Since(start); waited != 0 {
			s.Errorf("the list that no caller waits for was stopped %s later", waited)
		}
		if _, err := s.client.List(s.ctx, w2); err != nil {
			s.Error(err)
		}
	})
}

func BenchmarkKey(b *testing.B) {
	m := newModel()
	for i := range 3000 {
		m.seed(fmt.Sprintf("w1/p%03d", i/10), fmt.Sprintf("sk-bench-%08d", i), "", time.Now())
	}
	keys := make([]byok.Key, 0, 3000)
	index := map[string]int{}
	for _, pool := range m.pools {
		for _, key := range pool {
			index[key.ID] = len(keys)
			keys = append(keys, key.Key)
		}
	}
	c, err := New(Config{Endpoint: "http://localhost:1", SessionToken: signedToken})
	if err != nil {
		b.Fatal(err)
	}
	c.scope(w1).snapshot = &snapshot{keys: keys, index: index}
	for i := 0; b.Loop(); i++ {
		if _, err := c.Key(b.Context(), w1, keys[i%len(keys)].ID); err != nil {
			b.Fatal(err)
		}
	}
}
