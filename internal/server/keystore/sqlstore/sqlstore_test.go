package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/pgtest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/conformance"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/sqlstore"
)

var postgres pgtest.Package

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }

func openDB(t testing.TB, target string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func openStore(t testing.TB, target string, now func() time.Time) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(t.Context(), openDB(t, target), now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func targets(t testing.TB) map[string]func() string {
	return map[string]func() string{
		"sqlite file":   func() string { return "sqlite:" + filepath.Join(t.TempDir(), "keys.db") },
		"sqlite memory": func() string { return "sqlite::memory:" },
		"postgres":      func() string { return postgres.Database(t) },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, func(t *testing.T, clock *conformance.Clock) keystore.Store {
				return openStore(t, target(), clock.Now)
			})
		})
	}
}

var pool = keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w"}, ProviderID: "openai"}

// Four instances on one database: 200 adds to one pool leave exactly ten, and
// a change through one is seen by all at once.
func TestFourInstances(t *testing.T) {
	t.Parallel()
	target := postgres.Database(t)
	stores := make([]*sqlstore.Store, 4)
	for i := range stores {
		stores[i] = openStore(t, target, time.Now)
	}
	var added, full atomic.Int64
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := stores[i%4].Add(t.Context(), pool, keystore.NewKey{ID: fmt.Sprintf("k%03d", i), Sealed: "s", CreatedBy: "u"}, byok.Cap)
			switch {
			case err == nil:
				added.Add(1)
			case errors.Is(err, keystore.ErrFull):
				full.Add(1)
			default:
				t.Errorf("add: %v", err)
			}
		})
	}
	wg.Wait()
	if added.Load() != byok.Cap || full.Load() != 200-byok.Cap {
		t.Errorf("%d added, %d refused; want %d and %d", added.Load(), full.Load(), byok.Cap, 200-byok.Cap)
	}
	keys, err := stores[0].Pool(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stores[1].Replace(t.Context(), pool, keys[0].ID, keystore.Replacement{Sealed: "replaced"}); err != nil {
		t.Fatal(err)
	}
	if err := stores[2].Delete(t.Context(), pool, keys[1].ID); err != nil {
		t.Fatal(err)
	}
	for i, s := range stores {
		now, err := s.Pool(t.Context(), pool)
		if err != nil || len(now) != byok.Cap-1 || now[0].Sealed != "replaced" {
			t.Errorf("instance %d sees %d keys, the first %q (%v)", i, len(now), now[0].Sealed, err)
		}
	}
}

// Another holder of the real server's lock blocks this pool alone, for as long
// as the real server would wait.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	db := openDB(t, postgres.Database(t))
	s, err := sqlstore.New(t.Context(), db, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("SELECT pg_advisory_xact_lock(hashtextextended('byok:w:openai', 0))"); err != nil {
		t.Fatal(err)
	}
	other := keystore.Pool{Owner: pool.Owner, ProviderID: "anthropic"}
	if _, err := s.Add(t.Context(), other, keystore.NewKey{ID: "free", Sealed: "s", CreatedBy: "u"}, byok.Cap); err != nil {
		t.Errorf("another pool of the workspace was blocked: %v", err)
	}
	if _, err := s.Add(t.Context(), pool, keystore.NewKey{ID: "held", Sealed: "s", CreatedBy: "u"}, byok.Cap); !errors.Is(err, keystore.ErrLockTimeout) {
		t.Errorf("add under a held lock: %v, want ErrLockTimeout", err)
	}
	_ = tx.Rollback()
	if _, err := s.Add(t.Context(), pool, keystore.NewKey{ID: "held", Sealed: "s", CreatedBy: "u"}, byok.Cap); err != nil {
		t.Errorf("add after the lock was given back: %v", err)
	}
}

// Every query of a request reads along an index; none scans a table or sorts,
// however many workspaces there are.
func TestQueryPlans(t *testing.T) {
	t.Parallel()
	queries := map[string]string{
		"list":    "SELECT id, provider_id, name, encrypted_api_key, created_by, created_at, updated_at FROM workspace_byok_keys WHERE workspace_id = 'w7' ORDER BY provider_id, created_at, id",
		"pool":    "SELECT id, encrypted_api_key FROM workspace_byok_keys WHERE workspace_id = 'w7' AND provider_id = 'openai' ORDER BY created_at, id",
		"count":   "SELECT count(*) FROM workspace_byok_keys WHERE workspace_id = 'w7' AND provider_id = 'openai'",
		"replace": "UPDATE workspace_byok_keys SET name = 'x' WHERE id = 'k7' AND workspace_id = 'w7' AND provider_id = 'openai'",
		"delete":  "DELETE FROM workspace_byok_keys WHERE id = 'k7' AND workspace_id = 'w7' AND provider_id = 'openai'",
	}
	for name, target := range targets(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openDB(t, target())
			explain, analyze := "EXPLAIN QUERY PLAN ", "ANALYZE"
			fill := `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 19999)
				INSERT INTO workspace_byok_keys (id, workspace_id, provider_id, encrypted_api_key, created_at, updated_at)
				SELECT 'k' || i, 'w' || (i/10), 'openai', 'sealed', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000' FROM n`
			if db.Dialect == database.Postgres {
				explain = "EXPLAIN "
				fill = strings.ReplaceAll(fill, "'2026-01-01 00:00:00.000000'", "timestamp '2026-01-01'")
			}
			for _, query := range []string{fill, analyze} {
				if _, err := db.Write.ExecContext(t.Context(), query); err != nil {
					t.Fatal(err)
				}
			}
			for name, query := range queries {
				plan := explained(t, db, explain+query)
				for _, slow := range []string{"SCAN workspace", "Seq Scan", "TEMP B-TREE"} {
					if strings.Contains(plan, slow) {
						t.Errorf("%s has %q in its plan:\n%s", name, slow, plan)
					}
				}
				if !strings.Contains(plan, "INDEX") && !strings.Contains(plan, "Index") {
					t.Errorf("%s uses no index:\n%s", name, plan)
				}
			}
		})
	}
}

func explained(t *testing.T, db *database.DB, query string) string {
	t.Helper()
	rows, err := db.Read.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&plan, *values[len(values)-1].(*any))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
