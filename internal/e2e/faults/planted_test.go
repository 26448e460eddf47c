package faults

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/backend"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
)

// raceWindow is how long a faulty store looks away between a read and a write.
const raceWindow = 10 * time.Millisecond

// unlockedCap counts a pool, and adds to it a moment later.
type unlockedCap struct{ keystore.Store }

func (s unlockedCap) Add(ctx context.Context, pool keystore.Pool, key keystore.NewKey, limit int) (keystore.Record, error) {
	keys, err := s.Pool(ctx, pool)
	if err == nil && len(keys) >= limit {
		err = keystore.ErrFull
	}
	if err != nil {
		return keystore.Record{}, err
	}
	time.Sleep(raceWindow)
	return s.Store.Add(ctx, pool, key, 10*limit)
}

// lostUpdate keeps a name by reading it, and storing it again a moment later.
type lostUpdate struct{ keystore.Store }

func (s lostUpdate) Replace(ctx context.Context, pool keystore.Pool, id string, with keystore.Replacement) (keystore.Record, error) {
	if with.Name == nil {
		records, err := s.List(ctx, pool.Owner)
		if err != nil {
			return keystore.Record{}, err
		}
		for _, r := range records {
			if r.ID == id {
				name := keystore.Text(r.Name)
				with.Name = &name
			}
		}
		time.Sleep(raceWindow)
	}
	return s.Store.Replace(ctx, pool, id, with)
}

// staleCursor lets the rotation go on choosing the key of each pool that was
// deleted last.
type staleCursor struct {
	keystore.Store
	mu      sync.Mutex
	deleted map[keystore.Pool]keystore.SealedKey
}

func (s *staleCursor) Delete(ctx context.Context, pool keystore.Pool, id string) error {
	sealed, err := s.Sealed(ctx, pool, id)
	if err == nil {
		err = s.Store.Delete(ctx, pool, id)
	}
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deleted[pool] = keystore.SealedKey{ID: id, Sealed: sealed}
	}
	return err
}

func (s *staleCursor) Pool(ctx context.Context, pool keystore.Pool) ([]keystore.SealedKey, error) {
	keys, err := s.Store.Pool(ctx, pool)
	s.mu.Lock()
	defer s.mu.Unlock()
	if deleted, ok := s.deleted[pool]; ok && err == nil {
		keys = append(keys, deleted)
	}
	return keys, err
}

// TestPlantedFaults: histories of a server with a faulty store are not
// linearizable, those of the same server with a sound one are.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		plant func(keystore.Store) keystore.Store
		found bool
	}{
		"none":                   {func(s keystore.Store) keystore.Store { return s }, false},
		"a cap without its lock": {func(s keystore.Store) keystore.Store { return unlockedCap{s} }, true},
		"a lost update":          {func(s keystore.Store) keystore.Store { return lostUpdate{s} }, true},
		"a cursor that serves a deleted key": {func(s keystore.Store) keystore.Store {
			return &staleCursor{Store: s, deleted: map[keystore.Pool]keystore.SealedKey{}}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A race that does not happen in one history happens in another.
			const rounds, operations = 20, 400
			s := &site{config: newConfig("sqlite:"+filepath.Join(t.TempDir(), "keys.db"), t.TempDir())}
			workspaces := s.workspaces(rounds)
			through := s.faultyServer(t, tc.plant)
			for round, workspaceID := range workspaces {
				if round == 2 && !tc.found {
					return
				}
				h := newHistory(workspaceID, byok.ProviderIDs()[:1])
				h.run(through, historyClients, operations, uint64(round))
				h.list(through, operation{client: historyClients})
				if len(h.unexpected) > 0 {
					t.Fatalf("unexpected responses: %v", h.unexpected)
				}
				if found := h.violations(t); len(found) > 0 {
					if !tc.found {
						t.Errorf("found in a sound server: %v", found)
					}
					t.Logf("round %d: %v", round, found)
					return
				}
			}
			t.Errorf("%d histories of %d operations are linearizable", rounds, operations)
		})
	}
}

// faultyServer serves the API in this process from a store with a fault.
func (s *site) faultyServer(t *testing.T, plant func(keystore.Store) keystore.Store) door {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	running, err := server.Start(ctx, server.Config{
		Database: s.config.Database, Secrets: s.config.Secrets, Bootstrap: s.config.Bootstrap, PasswordCost: 2, Development: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Shutdown(ctx) })
	session, err := running.MintSession(ctx, siteUser)
	if err != nil {
		t.Fatal(err)
	}
	store, err := backend.New(ctx, running.DB(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := s.config.Secrets.Sealer()
	if err != nil {
		t.Fatal(err)
	}
	appURL, err := url.Parse(running.URL())
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	front := httptest.NewServer(api.New(api.Config{
		Access: running.Access(), DB: running.DB(), Store: plant(store), Sealer: sealer, MaySeal: func(context.Context) error { return nil },
		Rotation: rotation.New(), Activity: rotation.NewActivity(time.Now()), Lifetime: ctx,
		AppURL: appURL, InternalSecret: siteInternalSecret, Logger: quiet, Audit: quiet, Now: time.Now, Random: rand.Reader,
	}))
	t.Cleanup(front.Close)
	return newDoor(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: historyClients}}, func() string { return front.URL }, session)
}
