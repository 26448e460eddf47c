//go:build unix

package pgtest

import (
	"context"
	_ "embed" // simTables
	"testing"

	"github.com/jackc/pgx/v5"
)

// simTables makes the tables of Sim.
//
//go:embed sim.sql
var simTables string

// SimURL is URL for a database with Sim's tables, as its own migrations make
// them, in the schema public.
func SimURL(t testing.TB) string {
	t.Helper()
	target := URL(t)
	conn, err := pgx.Connect(context.Background(), target)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), simTables); err != nil {
		t.Fatalf("pgtest: make Sim's tables: %v", err)
	}
	return target
}

// SimDefinitions returns all that PostgreSQL's catalogue says of a database with
// Sim's tables, but for byok-server's schema there: equal definitions mean that
// nothing of Sim's was changed.
func SimDefinitions(t testing.TB, target string) []string {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), target)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer conn.Close(context.Background())
	rows, _ := conn.Query(context.Background(), `
		SELECT 'schema ' || schema_name FROM information_schema.schemata WHERE schema_name <> 'byok_server'
		UNION ALL SELECT 'column ' || to_jsonb(c)::text FROM information_schema.columns c WHERE table_schema IN ('public', 'drizzle')
		UNION ALL SELECT 'constraint ' || conrelid::text || conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint WHERE connamespace = 'public'::regnamespace
		UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname IN ('public', 'drizzle')
		UNION ALL SELECT 'trigger ' || to_jsonb(t)::text FROM information_schema.triggers t
		UNION ALL SELECT 'enumeration ' || enumtypid::text || enumlabel || enumsortorder FROM pg_enum
		UNION ALL SELECT 'table ' || oid::text || relname || coalesce(relacl::text, '') || relfilenode FROM pg_class WHERE relnamespace = 'public'::regnamespace
		ORDER BY 1`) // CollectRows returns its error
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return all
}
