package sqlite

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// Every query goes along an index to the rows of one pool, owner or key, in the
// order that it returns them: none reads or sorts more as the store grows.
func TestPlans(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]struct{ query, search string }{
		"list":         {listQuery, "{owner}_byok_pool_idx ({owner}_id=?)"},
		"visit":        {visitQuery, "{owner}_byok_pool_idx ({owner}_id=?)"},
		"sealed":       {sealedQuery, "sqlite_autoindex_{owner}_byok_keys_1 (id=?)"},
		"pool":         {poolQuery, "{owner}_byok_pool_idx ({owner}_id=? AND provider_id=?)"},
		"provider IDs": {providerIDsQuery, "COVERING INDEX {owner}_byok_pool_idx ({owner}_id=?)"},
		"add":          {addQuery, "COVERING INDEX {owner}_byok_pool_idx ({owner}_id=? AND provider_id=?)"},
		"replace":      {replaceQuery, "sqlite_autoindex_{owner}_byok_keys_1 (id=?)"},
		"delete":       {removeQuery, "sqlite_autoindex_{owner}_byok_keys_1 (id=?)"},
		"delete pool":  {removePoolQuery, "{owner}_byok_pool_idx ({owner}_id=? AND provider_id=?)"},
	} {
		for _, owner := range []string{"workspace", "organization"} {
			on := func(text string) string { return complete(text, owner) }
			highest := 0
			for _, m := range placeholders.FindAllStringSubmatch(q.query, -1) {
				n, _ := strconv.Atoi(m[1])
				highest = max(highest, n)
			}
			rows, err := db.Read.Query("EXPLAIN QUERY PLAN "+on(q.query), make([]any, highest)...)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var plan []string
			for rows.Next() {
				var id, parent, unused int
				var step string
				if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
					t.Fatal(err)
				}
				plan = append(plan, step)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			_ = rows.Close()
			text := strings.Join(plan, "; ")
			if !strings.Contains(text, on(q.search)) || strings.Contains(text, "TEMP B-TREE") || strings.Contains(text, "SCAN "+owner) {
				t.Errorf("%s of a %s: %s; want a search along %s, no scan and no sort", name, owner, text, on(q.search))
			}
		}
	}
}

var placeholders = regexp.MustCompile(`\$([0-9])`)
