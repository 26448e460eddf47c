package encryption

import (
	"slices"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// Every table with sealed keys is known here: one that is not would become
// unreadable when ENCRYPTION_KEY changes, and would not protect a lost secrets
// file from being replaced.
func TestAllTablesWithKeysAreKnown(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := db.Read.QueryContext(t.Context(), `SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND c.name = 'encrypted_api_key' ORDER BY m.name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var want, got []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	for _, table := range tables {
		got = append(got, table.name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("tables = %q, the schema has %q", got, want)
	}
}
