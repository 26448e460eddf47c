package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// A list that nobody has changed is not read again, and a list that any program
// has changed is.
func TestKeptLists(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := New(db, time.Now)

	for name, tt := range map[string]struct {
		// changes are made by another program, in one transaction each.
		changes []string
		want    string
	}{
		"nothing":                   {nil, "a:one b:two"},
		"a key of another owner":    {[]string{"UPDATE {table} SET name = 'x' WHERE id = 'other'"}, "a:one b:two"},
		"a name":                    {[]string{"UPDATE {table} SET name = 'x' WHERE id = 'a{n}'"}, "a:x b:two"},
		"a name, back and forth":    {[]string{"UPDATE {table} SET name = 'x' WHERE id = 'a{n}'", "UPDATE {table} SET name = 'one' WHERE id = 'a{n}'"}, "a:one b:two"},
		"a value, twice at once":    {[]string{"UPDATE {table} SET name = 'x' WHERE id = 'a{n}'; UPDATE {table} SET name = 'y' WHERE id = 'a{n}'"}, "a:y b:two"},
		"a key is gone":             {[]string{"DELETE FROM {table} WHERE id = 'a{n}'"}, "b:two"},
		"all are gone":              {[]string{"DELETE FROM {table} WHERE workspace_id = 'w{n}'"}, ""},
		"another key":               {[]string{"INSERT INTO {table} (id, workspace_id, provider_id, name, encrypted_api_key, created_at, updated_at) VALUES ('c{n}', 'w{n}', 'p', 'three', 's', now() + interval '1 hour', now())"}, "a:one b:two c:three"},
		"one for another":           {[]string{"UPDATE {table} SET id = 'd{n}' WHERE id = 'a{n}'"}, "d:one b:two"},
		"gone, and added once more": {[]string{"DELETE FROM {table} WHERE id = 'a{n}'", "INSERT INTO {table} (id, workspace_id, provider_id, name, encrypted_api_key, created_at, updated_at) VALUES ('a{n}', 'w{n}', 'p', 'new', 's', '2020-01-01', '2020-01-01')"}, "a:new b:two"},
		"the transaction fails":     {[]string{"DELETE FROM {table} WHERE id = 'a{n}'; SELECT 1 / 0"}, "a:one b:two"},
		"the table is rewritten":    {[]string{"CLUSTER {table} USING workspace_byok_keys_pkey"}, "a:one b:two"},
	} {
		t.Run(name, func(t *testing.T) {
			owner := keystore.Owner{Scope: keystore.Workspace, ID: "w" + strings.ReplaceAll(name, " ", "-")}
			suffix := strings.TrimPrefix(owner.ID, "w")
			exec := func(query string) error {
				_, err := db.Postgres.Exec(t.Context(), strings.NewReplacer("{table}", "workspace_byok_keys", "{n}", suffix).Replace(query),
					pgx.QueryExecModeSimpleProtocol)
				return err
			}
			if err := exec(`INSERT INTO {table} (id, workspace_id, provider_id, name, encrypted_api_key, created_at, updated_at)
				VALUES ('a{n}', 'w{n}', 'p', 'one', 's', '2020-01-01', '2020-01-01'), ('b{n}', 'w{n}', 'p', 'two', 's', '2020-01-02', '2020-01-02')`); err != nil {
				t.Fatal(err)
			}
			list := func() string {
				t.Helper()
				ctx := store.WillList(t.Context(), owner)
				if err := db.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(new(int)) }, "SELECT 1"); err != nil {
					t.Fatal(err)
				}
				return names(t, ctx, store, owner, suffix)
			}
			if got := list(); got != "a:one b:two" {
				t.Fatalf("the first list is %q", got)
			}
			for _, change := range tt.changes {
				_ = exec(change) // one of them fails on purpose
			}
			// Whatever is kept would be told.
			kept := store.lists.entries[owner]
			for i := range kept.records {
				kept.records[i].Name = keystore.Optional("kept")
			}
			want := tt.want
			if tt.want == "a:one b:two" && !strings.HasPrefix(name, "a name") {
				want = "a:kept b:kept"
			}
			if got := list(); got != want {
				t.Errorf("then the list is %q, want %q", got, want)
			}
			if got := names(t, t.Context(), store, owner, suffix); got != tt.want {
				t.Errorf("without WillList it is %q, want %q", got, tt.want)
			}
		})
	}
}

func names(t *testing.T, ctx context.Context, store *Store, owner keystore.Owner, suffix string) string {
	t.Helper()
	records, err := store.List(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%s:%s", strings.TrimSuffix(r.ID, suffix), keystore.Text(r.Name)))
	}
	return strings.Join(all, " ")
}

// What is kept has a limit, in owners and in bytes of each.
func TestKeptListsAreBounded(t *testing.T) {
	t.Parallel()
	l := lists{entries: map[keystore.Owner]list{}}
	owner := func(n int) keystore.Owner { return keystore.Owner{Scope: keystore.Workspace, ID: fmt.Sprint(n)} }
	for n := range 2 * keptOwners {
		l.put(owner(n), "1", []keystore.Record{{ID: "a", Sealed: "s"}})
	}
	if len(l.entries) != keptOwners {
		t.Errorf("the lists of %d owners are kept, want %d", len(l.entries), keptOwners)
	}
	last := owner(2*keptOwners - 1)
	if _, found := l.get(last, "1"); !found {
		t.Error("the newest list is not kept")
	}
	l.put(last, "2", []keystore.Record{{ID: "a", Sealed: strings.Repeat("s", keptBytes+1)}})
	for _, version := range []string{"1", "2"} {
		if _, found := l.get(last, version); found {
			t.Errorf("version %s is kept, although the list is large", version)
		}
	}
}
