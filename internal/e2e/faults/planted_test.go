package faults

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
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

// slowAdds lets an add on PostgreSQL take a while between its count of the pool and
// its insertion, within the store's own statement: long enough for the add of
// another server that does not wait for it.
func slowAdds(t *testing.T, target string) {
	t.Helper()
	db, err := database.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write.ExecContext(t.Context(), fmt.Sprintf(`
		CREATE FUNCTION slow_add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(%f); RETURN NEW; END $$;
		CREATE TRIGGER slow_add BEFORE INSERT ON workspace_byok_keys FOR EACH ROW EXECUTE FUNCTION slow_add()`, raceWindow.Seconds())); err != nil {
		t.Fatal(err)
	}
}

// withoutAdvisoryLock returns the URL of a schema in which the advisory lock that
// the store takes excludes nobody.
func withoutAdvisoryLock(t *testing.T, target string) string {
	t.Helper()
	db, err := database.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Write.ExecContext(t.Context(), `
		CREATE SCHEMA faulty;
		CREATE FUNCTION faulty.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS ''`); err != nil {
		t.Fatal(err)
	}
	return target + "&search_path=faulty,pg_catalog"
}

// TestPlantedFaults: histories of servers with a faulty store are not
// linearizable, those of the same servers with a sound one are. There are two on
// PostgreSQL, since what one process does, its own locks order.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	plain := func(_ *testing.T, target string) string { return target }
	sound := func(s keystore.Store) keystore.Store { return s }
	faults := []struct {
		name  string
		plant func(keystore.Store) keystore.Store
		// target makes a URL of PostgreSQL the one of the fault.
		target       func(*testing.T, string) string
		found        bool
		onlyPostgres bool
	}{
		{name: "none", plant: sound, target: plain},
		{name: "a cap without its lock", plant: func(s keystore.Store) keystore.Store { return unlockedCap{s} }, target: plain, found: true},
		{name: "an advisory lock that excludes nobody", plant: sound, target: withoutAdvisoryLock, found: true, onlyPostgres: true},
		{name: "a lost update", plant: func(s keystore.Store) keystore.Store { return lostUpdate{s} }, target: plain, found: true},
		{name: "a cursor that serves a deleted key", plant: func(s keystore.Store) keystore.Store {
			return &staleCursor{Store: s, deleted: map[keystore.Pool]keystore.SealedKey{}}
		}, target: plain, found: true},
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		for _, tc := range faults {
			if tc.onlyPostgres {
				continue
			}
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				testPlanted(t, "sqlite:"+filepath.Join(t.TempDir(), "keys.db"), 1, tc.plant, tc.found)
			})
		}
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		c := cluster(t)
		for _, tc := range faults {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				target := tc.target(t, c.Database(t))
				slowAdds(t, target)
				testPlanted(t, target, 2, tc.plant, tc.found)
			})
		}
	})
}

func testPlanted(t *testing.T, target string, servers int, plant func(keystore.Store) keystore.Store, faulty bool) {
	t.Helper()
	// A race that does not happen in one history happens in another.
	const rounds, operations = 20, 400
	s := &site{config: newConfig(target, t.TempDir())}
	workspaces := s.workspaces(rounds)
	var fronts []string
	var session string
	for range servers {
		var front string
		front, session = s.plantedServer(t, plant)
		fronts = append(fronts, front)
	}
	var turn atomic.Int64
	through := newDoor(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: historyClients}},
		func() string { return fronts[int(turn.Add(1))%len(fronts)] }, session)
	for round, workspaceID := range workspaces {
		if round == 2 && !faulty {
			return
		}
		h := newHistory(workspaceID, byok.ProviderIDs()[:1])
		h.run(through, historyClients, operations, uint64(round))
		h.list(through, operation{client: historyClients})
		if len(h.unexpected) > 0 {
			t.Fatalf("unexpected responses: %v", h.unexpected)
		}
		if found := h.violations(t); len(found) > 0 {
			if !faulty {
				t.Errorf("found in a sound server: %v", found)
			}
			t.Logf("round %d: %v", round, found)
			return
		}
	}
	t.Errorf("%d histories of %d operations are linearizable", rounds, operations)
}

// plantedServer serves the API in this process from a store with a fault, and
// returns its URL and a session.
func (s *site) plantedServer(t *testing.T, plant func(keystore.Store) keystore.Store) (front, session string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	running, err := server.Start(ctx, server.Config{
		Database: s.config.Database, Secrets: s.config.Secrets, Bootstrap: s.config.Bootstrap, PasswordCost: 2, Development: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Shutdown(ctx) })
	session, err = running.MintSession(ctx, siteUser)
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
	listening := httptest.NewServer(api.New(api.Config{
		Access: running.Access(), DB: running.DB(), Store: plant(store), Sealer: sealer, MaySeal: func(context.Context) error { return nil },
		Rotation: rotation.New(), Activity: rotation.NewActivity(time.Now()), Lifetime: ctx,
		AppURL: appURL, InternalSecret: siteInternalSecret, Logger: quiet, Audit: quiet, Now: time.Now, Random: rand.Reader,
	}))
	t.Cleanup(listening.Close)
	return listening.URL, session
}
