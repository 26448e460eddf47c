package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// Every query goes along an index to the rows of one pool, owner or key, by the
// plan that a prepared statement keeps: none reads more as the store grows.
func TestPlans(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := db.Postgres.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	exec := func(query string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	for i, owner := range []string{"workspace", "organization"} {
		// The planner looks at sizes: 2,000 owners of ten keys each.
		exec(strings.ReplaceAll(`INSERT INTO {owner}_byok_keys (id, {owner}_id, provider_id, encrypted_api_key, created_at, updated_at)
			SELECT 'k' || n, 'w' || n / 10, 'p' || n % 3, repeat('s', 110), now(), now() FROM generate_series(0, 19999) n`, "{owner}", owner))
		exec("ANALYZE " + owner + "_byok_keys")
		queries := queries(owner, "")
		pool := owner + "_byok_pool_idx"
		for name, q := range map[string]struct{ query, args, index string }{
			"list":         {queries.list, "'w7'", pool},
			"version":      {queries.version, "'w7'", pool},
			"visit":        {queries.visit, "'w7'", pool},
			"sealed":       {queries.sealed, "'w7', 'p1', 'k71'", owner + "_byok_keys_pkey"},
			"pool":         {queries.pool, "'w7', 'p1'", pool},
			"provider IDs": {queries.providerIDs, "'w7'", pool},
			"add":          {queries.add, "'w7', 'p1', 'new', NULL, 's', NULL, now(), 10", pool},
			"replace":      {queries.replace, "'w7', 'p1', 'k71', 's', now(), true, NULL", owner + "_byok_keys_pkey"},
			"delete":       {queries.remove, "'w7', 'p1', 'k71'", owner + "_byok_keys_pkey"},
			"delete pool":  {queries.removePool, "'w7', 'p1'", pool},
		} {
			statement := fmt.Sprintf("plan_%d_%s", i, strings.ReplaceAll(name, " ", "_"))
			exec("PREPARE " + statement + " AS " + q.query)
			rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE "+statement+"("+q.args+")", pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			plan := strings.Join(lines, "\n")
			if !strings.Contains(plan, q.index) || strings.Contains(plan, "Seq Scan") {
				t.Errorf("%s of a %s does not go along %s:\n%s", name, owner, q.index, plan)
			}
			if !strings.Contains(plan, "$1") {
				t.Errorf("%s of a %s is planned anew for each call:\n%s", name, owner, plan)
			}
		}
	}
}
