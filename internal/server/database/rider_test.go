package database_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// A query goes along with the first question after it, once; its failure is its
// own, and it is asked though the first question finds no row.
func TestRider(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.URL(t))
	ask := func(ctx context.Context, query string) (n int, err error) {
		err = db.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(&n) }, query)
		return n, err
	}
	for name, tt := range map[string]struct {
		first, along string
		firstFails   bool
		alongFails   bool
	}{
		"both":                       {"SELECT 1", "SELECT 2", false, false},
		"no row":                     {"SELECT 1 WHERE false", "SELECT 2", true, false},
		"what goes along fails":      {"SELECT 1", "SELECT 1 / 0", false, true},
		"the first question fails":   {"SELECT 1 / 0", "SELECT 2", true, true},
		"what goes along has no row": {"SELECT 1", "SELECT 2 WHERE false", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := 0
			ctx, rider := database.WithRider(t.Context(), func(rows pgx.Rows) (err error) {
				got, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
				return err
			}, tt.along)
			if asked, err := rider.Asked(); asked || err != nil {
				t.Errorf("before the first question: %v, %v", asked, err)
			}
			if n, err := ask(ctx, tt.first); (err != nil) != tt.firstFails || err == nil && n != 1 {
				t.Errorf("the first question: %d, %v", n, err)
			}
			if asked, err := rider.Asked(); !asked || (err != nil) != tt.alongFails || err == nil && got != 2 {
				t.Errorf("what went along: %v, %d, %v", asked, got, err)
			}
			got = 0
			if n, err := ask(ctx, "SELECT 1"); n != 1 || err != nil {
				t.Errorf("the second question: %d, %v", n, err)
			}
			if asked, err := rider.Asked(); asked || err != nil || got != 0 {
				t.Errorf("it went along again: %v, %d, %v", asked, got, err)
			}
		})
	}
}
