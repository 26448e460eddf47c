package database_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// adopt adopts the tables of Sim in a database.
func adopt(t *testing.T, target string) {
	t.Helper()
	if _, err := open(t, target).Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Sim's tables are left alone until they are adopted, and as they are
// afterwards; what is byok-server's is in a schema of its own.
func TestAdopt(t *testing.T) {
	t.Parallel()
	target := pgtest.SimURL(t)
	db := open(t, target)
	before := pgtest.SimDefinitions(t, target)
	_, migrated := db.Migrate(t.Context())
	_, status := db.MigrationStatus(t.Context())
	for what, err := range map[string]error{"migrate": migrated, "status": status, "check": db.CheckTables(t.Context())} {
		if !errors.Is(err, database.ErrNotAdopted) || !strings.Contains(err.Error(), "byok-server migrate adopt") {
			t.Errorf("%s before adopt: %v", what, err)
		}
	}
	if diff := cmp.Diff(before, pgtest.SimDefinitions(t, target)); diff != "" {
		t.Errorf("a refusal changed the database (-before +after):\n%s", diff)
	}

	for range 2 { // the second time, nothing is left to do
		adopt(t, target)
	}
	adopted := open(t, target)
	if !adopted.IsAdopted() {
		t.Error("the database is not recognised as adopted")
	}
	if applied, err := adopted.Migrate(t.Context()); err != nil || len(applied) != 0 {
		t.Errorf("migrate after adopt: %v, %v", applied, err)
	}
	steps, err := adopted.MigrationStatus(t.Context())
	if err != nil || len(steps) == 0 || steps[0].AppliedAt.IsZero() {
		t.Errorf("status after adopt: %v, %v", steps, err)
	}
	if diff := cmp.Diff(before, pgtest.SimDefinitions(t, target)); diff != "" {
		t.Errorf("adopt changed Sim's tables (-before +after):\n%s", diff)
	}
	want := []string{"byok_server_canary", "byok_server_known_passwords", "byok_server_migrations", "byok_server_revocations", "copilot_byok_keys"}
	if got := tables(t, adopted, "byok_server"); !slices.Equal(got, want) {
		t.Errorf("the schema byok_server has %q, want %q", got, want)
	}
}

// A user that may not create schemas adopts where an administrator has made one.
func TestAdoptWithoutTheRightToCreateSchemas(t *testing.T) {
	t.Parallel()
	target := pgtest.SimURL(t)
	admin := open(t, target)
	role := "byok_" + strings.ToLower(rand.Text())
	run := func(query string) {
		t.Helper()
		if _, err := admin.Write.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE ROLE " + role + " LOGIN")
	t.Cleanup(func() {
		_, _ = admin.Write.ExecContext(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
	})
	run("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + role)
	as := strings.Replace(target, "user=postgres", "user="+role, 1)
	if _, err := open(t, as).Adopt(t.Context()); err == nil || !strings.Contains(err.Error(), "CREATE SCHEMA byok_server AUTHORIZATION") {
		t.Errorf("adopt without the right to create schemas: %v", err)
	}
	run("CREATE SCHEMA byok_server AUTHORIZATION " + role)
	adopt(t, as)
	if _, err := open(t, as).Migrate(t.Context()); err != nil {
		t.Error(err)
	}
}

// tables lists the tables of a schema.
func tables(t *testing.T, db *database.DB, schema string) (names []string) {
	t.Helper()
	var list string
	err := db.Read.QueryRowContext(t.Context(), "SELECT coalesce(string_agg(tablename, ' ' ORDER BY tablename), '') FROM pg_tables WHERE schemaname = $1", schema).Scan(&list)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(list)
}

// The own tables of an adopted database are those of a database of its own.
func TestOwnTablesAreTheSame(t *testing.T) {
	t.Parallel()
	target := pgtest.SimURL(t)
	adopt(t, target)
	own := open(t, pgtest.URL(t))
	if _, err := own.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	columns := func(db *database.DB, schema string) (text string) {
		err := db.Read.QueryRowContext(t.Context(), `SELECT string_agg(format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, collation_name), ', ' ORDER BY table_name, ordinal_position)
			FROM information_schema.columns WHERE table_schema = $1 AND (table_name LIKE 'byok\_server\_%' OR table_name = 'copilot_byok_keys')`, schema).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got, want := columns(open(t, target), "byok_server"), columns(own, "public"); got != want {
		t.Errorf("beside Sim's tables:\n%s\nin a database of its own:\n%s", got, want)
	}
}

// Every kind of difference is refused and named, before adopt and after it.
func TestDifferentTablesAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, change, want string }{
		{"type", "ALTER TABLE workspace_byok_keys ALTER COLUMN encrypted_api_key TYPE varchar(200)",
			"table workspace_byok_keys, column encrypted_api_key: expected text, found character varying(200)"},
		{"missing column", "ALTER TABLE organization_byok_keys DROP COLUMN name",
			"table organization_byok_keys, column name: expected text, nullable, found no such column"},
		{"unknown column", "ALTER TABLE workspace_byok_keys ADD COLUMN deleted_at timestamp",
			"table workspace_byok_keys, column deleted_at: expected no such column, found timestamp, nullable"},
		{"nullable", `ALTER TABLE session ALTER COLUMN user_agent SET NOT NULL`,
			"table session, column user_agent: expected text, nullable, found text"},
		{"default", `ALTER TABLE "user" ALTER COLUMN banned SET DEFAULT true`,
			"table user, column banned: expected boolean, nullable, default false, found boolean, nullable, default true"},
		{"missing table", "DROP TABLE organization_byok_keys", "table organization_byok_keys: expected to exist, found no such table"},
		{"renamed table", "ALTER TABLE workspace_byok_keys RENAME TO byok_keys", "table workspace_byok_keys: expected to exist, found no such table"},
		{"one key per pool", "CREATE UNIQUE INDEX one ON workspace_byok_keys (workspace_id, provider_id)",
			"table workspace_byok_keys: expected no such rule, found UNIQUE INDEX (workspace_id, provider_id)"},
		{"lost constraint", "ALTER TABLE member DROP CONSTRAINT member_user_id_user_id_fk",
			`table member: expected FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE, found none`},
		{"enumeration", "ALTER TYPE permission_type ADD VALUE 'owner'", "permission_type: expected the labels admin, read, write, found admin, owner, read, write"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			adopted, other := pgtest.SimURL(t), pgtest.SimURL(t)
			adopt(t, adopted)
			for _, target := range []string{adopted, other} {
				if _, err := open(t, target).Write.ExecContext(t.Context(), test.change); err != nil {
					t.Fatal(err)
				}
			}
			_, adopting := open(t, other).Adopt(t.Context())
			_, migrating := open(t, adopted).Migrate(t.Context())
			for what, err := range map[string]error{"adopt": adopting, "migrate after adopt": migrating, "check after adopt": open(t, adopted).CheckTables(t.Context())} {
				different := (*database.DifferentTablesError)(nil)
				if !errors.As(err, &different) || len(different.Differences) != 1 || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: %v\nwant only %s", what, err, test.want)
				}
			}
			if schemas := tables(t, open(t, other), "byok_server"); len(schemas) > 0 {
				t.Errorf("a refused adopt left %q behind", schemas)
			}
		})
	}
}

// What differs without a consequence is no difference.
func TestHarmlessDifferencesAreAccepted(t *testing.T) {
	t.Parallel()
	target := pgtest.SimURL(t)
	for _, change := range []string{
		"CREATE INDEX ours ON workspace_byok_keys (created_by)",
		"ALTER TABLE workspace VALIDATE CONSTRAINT workspace_storage_used_bytes_non_negative",
		`ALTER TABLE "user" RENAME CONSTRAINT user_email_unique TO user_email_key`,
		"ALTER TABLE settings ADD COLUMN colour text",
		"CREATE TABLE chat (id text)",
	} {
		if _, err := open(t, target).Write.ExecContext(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	adopt(t, target)
}

func TestAdoptNeedsSimsTables(t *testing.T) {
	onEach(t, func(t *testing.T, db *database.DB) {
		if _, err := db.Adopt(t.Context()); err == nil {
			t.Error("a database without Sim's tables was adopted")
		}
		if _, err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Adopt(t.Context()); err == nil {
			t.Error("a database of byok-server's own was adopted")
		}
	})
}

// search_path in the URL gives byok-server a schema of its own beside Sim's
// tables, whether those are adopted or not.
func TestSchemaBesideSimsTables(t *testing.T) {
	t.Parallel()
	target := pgtest.SimURL(t)
	if _, err := database.Open(t.Context(), target+"&search_path=byok"); err == nil || !strings.Contains(err.Error(), "CREATE SCHEMA byok") {
		t.Errorf("a schema that does not exist: %v", err)
	}
	sim := open(t, target)
	if _, err := sim.Write.ExecContext(t.Context(), "CREATE SCHEMA byok"); err != nil {
		t.Fatal(err)
	}
	before := pgtest.SimDefinitions(t, target)
	db := open(t, target+"&search_path=byok")
	if _, err := db.Migrate(t.Context()); err != nil || db.IsAdopted() {
		t.Fatalf("migrate in a schema of its own: %v, adopted: %v", err, db.IsAdopted())
	}
	if got := tables(t, db, "byok"); !slices.Contains(got, "workspace_byok_keys") || !slices.Contains(got, "byok_server_migrations") {
		t.Errorf("the schema byok has %q", got)
	}
	if diff := cmp.Diff(before, pgtest.SimDefinitions(t, target)); diff != "" {
		t.Errorf("Sim's tables changed (-before +after):\n%s", diff)
	}
	adopt(t, target)
	if again := open(t, target+"&search_path=byok"); again.IsAdopted() {
		t.Error("the schema of its own is taken for Sim's")
	}
}
