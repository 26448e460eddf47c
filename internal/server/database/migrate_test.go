package database_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/backend"
)

// A database full of single keys keeps every one of them: they become the
// first keys of their pools, without a name.
func TestMigrateSingleKeys(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		if applied, err := db.MigrateTo(t.Context(), 1); err != nil || len(applied) != 1 {
			t.Fatalf("first migration: %v, %v", applied, err)
		}
		const workspaces = 20
		insert := func(id, workspaceID, providerID string, at time.Time) error {
			_, err := db.Write.Exec(`INSERT INTO workspace_byok_keys (id, workspace_id, provider_id, encrypted_api_key, created_by, created_at, updated_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7)`, id, workspaceID, providerID, "sealed-"+id, "user", database.At(at), database.At(at.Add(time.Hour)))
			return err
		}
		first := time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC)
		for w := range workspaces {
			for p, providerID := range byok.ProviderIDs() {
				if err := insert(fmt.Sprintf("%02d-%02d", w, p), fmt.Sprint("w", w), providerID, first.Add(time.Duration(p)*time.Microsecond)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := insert("second", "w0", "openai", first); err == nil {
			t.Fatal("the single-key schema takes a second key")
		}

		applied, err := db.Migrate(t.Context())
		if err != nil || len(applied) == 0 || applied[0].Version != 2 {
			t.Fatalf("migrate: %v, %v", applied, err)
		}
		store, err := backend.New(t.Context(), db, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		for w := range workspaces {
			owner := keystore.Owner{Scope: keystore.Workspace, ID: fmt.Sprint("w", w)}
			records, err := store.List(t.Context(), owner)
			if err != nil || len(records) != len(byok.ProviderIDs()) {
				t.Fatalf("workspace %s has %d keys, %v", owner.ID, len(records), err)
			}
			for i, r := range records {
				if i > 0 && r.ProviderID <= records[i-1].ProviderID {
					t.Errorf("%s is listed after %s", r.ProviderID, records[i-1].ProviderID)
				}
				if r.Sealed != "sealed-"+r.ID || r.Name != nil || *r.CreatedBy != "user" || r.UpdatedAt.Sub(r.CreatedAt) != time.Hour {
					t.Errorf("key %s changed: %+v", r.ID, r)
				}
			}
		}
		openai := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w0"}, ProviderID: "openai"}
		if _, err := store.Add(t.Context(), openai, keystore.NewKey{ID: "second", Sealed: "s"}, byok.Cap); err != nil {
			t.Errorf("add beside a single key: %v", err)
		}
		if keys, err := store.Pool(t.Context(), openai); err != nil || len(keys) != 2 || keys[0].ID != "00-00" || keys[1].ID != "second" {
			t.Errorf("pool: %v, %v", keys, err)
		}
	})
}

func TestMigrationStatus(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		pending := func() (n int, all []database.Migration) {
			all, err := db.MigrationStatus(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range all {
				if m.Version != i+1 || m.Name == "" {
					t.Errorf("migration %d is %+v", i+1, m)
				}
				if m.AppliedAt.IsZero() {
					n++
				}
			}
			return n, all
		}
		n, all := pending()
		if n == 0 || n != len(all) {
			t.Errorf("%d of %d migrations are pending on an empty database", n, len(all))
		}
		if _, err := db.MigrateTo(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if n, _ := pending(); n != len(all)-2 {
			t.Errorf("%d of %d migrations are pending after two", n, len(all))
		}
		if applied, err := db.Migrate(t.Context()); err != nil || len(applied) != len(all)-2 {
			t.Errorf("migrate: %v, %v", applied, err)
		}
		if n, _ := pending(); n != 0 {
			t.Errorf("%d migrations are pending after all", n)
		}
		if applied, err := db.Migrate(t.Context()); err != nil || len(applied) != 0 {
			t.Errorf("second migrate: %v, %v", applied, err)
		}
	})
}

// A row that no migration wrote is an error that names it.
func TestForeignMigrationRow(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		if _, err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, version := range []int{0, -1} {
			if _, err := db.Write.Exec("INSERT INTO byok_server_migrations (version, name, applied_at) VALUES ($1, 'x', $2)", version, database.At(time.Now())); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("a row with version %d", version)
			if _, err := db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("migrate: %v, want %s", err, want)
			}
			if _, err := db.MigrationStatus(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("status: %v, want %s", err, want)
			}
			if _, err := db.Write.Exec("DELETE FROM byok_server_migrations WHERE version = $1", version); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Instances that start at once: one migrates, the others find it done.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for name, target := range targets() {
		if name == "memory" {
			continue // no two instances share one
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where := target(t)
			var wg sync.WaitGroup
			var mu sync.Mutex
			applied := map[int]int{}
			for range 4 {
				wg.Go(func() {
					db, err := database.Open(t.Context(), where)
					if err != nil {
						t.Errorf("open: %v", err)
						return
					}
					defer db.Close()
					migrations, err := db.Migrate(t.Context())
					if err != nil {
						t.Errorf("migrate: %v", err)
					}
					mu.Lock()
					defer mu.Unlock()
					for _, m := range migrations {
						applied[m.Version]++
					}
				})
			}
			wg.Wait()
			all, err := open(t, where).MigrationStatus(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range all {
				if applied[m.Version] != 1 || m.AppliedAt.IsZero() {
					t.Errorf("migration %d was applied %d times", m.Version, applied[m.Version])
				}
			}
		})
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		if _, err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Write.Exec("INSERT INTO byok_server_migrations (version, name, applied_at) VALUES (99, 'future', $1)", database.At(time.Now())); err != nil {
			t.Fatal(err)
		}
		_, migrated := db.Migrate(t.Context())
		_, status := db.MigrationStatus(t.Context())
		for what, err := range map[string]error{"migrate": migrated, "status": status} {
			if err == nil || !strings.Contains(err.Error(), "schema version 99") {
				t.Errorf("%s on a newer database: %v", what, err)
			}
		}
	})
}

// A migration that fails leaves the schema as it was.
func TestMigrateIsAllOrNothing(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		if _, err := db.Write.Exec("CREATE TABLE organization (id TEXT)"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "organizations") {
			t.Errorf("migrate over a foreign table: %v, want an error that names the migration", err)
		}
		if _, err := db.Read.Exec("SELECT 1 FROM workspace_byok_keys"); err == nil {
			t.Error("a failed migration left a table behind")
		}
	})
}
