package pgtest

import (
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// EachDatabase runs a test in parallel on an empty, migrated database of each
// kind. Where there is no PostgreSQL, that half is skipped, as URL does.
func EachDatabase(t *testing.T, run func(t *testing.T, db *database.DB)) {
	t.Helper()
	for name, target := range map[string]func(testing.TB) string{
		"sqlite":   func(testing.TB) string { return "sqlite::memory:" },
		"postgres": func(t testing.TB) string { return URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := database.Open(t.Context(), target(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			if _, err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			run(t, db)
		})
	}
}
