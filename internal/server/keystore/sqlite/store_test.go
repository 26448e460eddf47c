package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/conformance"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/sqlite"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(*testing.T) string{
		"file":   fileTarget,
		"memory": func(*testing.T) string { return "sqlite::memory:" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, func(t *testing.T, now func() time.Time) keystore.Store {
				_, store := open(t, target(t), now)
				return store
			})
		})
	}
}

// Several processes may share a file; here each store has its own connections.
func TestInstances(t *testing.T) {
	t.Parallel()
	target := fileTarget(t)
	stores := make([]keystore.Store, 4)
	for i := range stores {
		_, stores[i] = open(t, target, time.Now)
	}
	conformance.RunInstances(t, stores)
}

func fileTarget(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "keys.db")
}

// open migrates a database and returns a store on it; both close with the test.
func open(t testing.TB, target string, now func() time.Time) (*database.DB, *sqlite.Store) {
	t.Helper()
	db, err := database.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.New(t.Context(), db, now)
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

// openPlain is open for a process that has no test.
func openPlain(target string) (context.Context, *sqlite.Store, error) {
	ctx := context.Background()
	db, err := database.Open(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlite.New(ctx, db, time.Now)
	return ctx, store, err
}

// Each scope's keys are in the table that other programs, and the commands of
// byok-server, look for them in.
func TestTables(t *testing.T) {
	t.Parallel()
	db, store := open(t, "sqlite::memory:", time.Now)
	for scope, table := range map[keystore.Scope]string{
		keystore.Workspace: "workspace_byok_keys", keystore.Organization: "organization_byok_keys",
	} {
		pool := keystore.Pool{Owner: keystore.Owner{Scope: scope, ID: "o"}, ProviderID: "openai"}
		if _, err := store.Add(t.Context(), pool, keystore.NewKey{ID: "in-" + table, Sealed: "s"}, byok.Cap); err != nil {
			t.Fatal(err)
		}
		var ids string
		if err := db.Read.QueryRowContext(t.Context(), "SELECT coalesce(group_concat(id), '') FROM "+table).Scan(&ids); err != nil || ids != "in-"+table {
			t.Errorf("%s holds %q, %v; want the key of the %s", table, ids, err, scope)
		}
	}
}
