package main

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// A command that another session keeps waiting says what happened and what to do.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	target := pgtest.URL(t)
	must(t, secrets, "migrate", "up", "--database", target)
	conn, err := pgx.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE "user", workspace_byok_keys IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	impatient := target + "&lock_timeout=100"
	for _, args := range [][]string{
		{"serve", "--listen", "127.0.0.1:0"}, {"user", "list"}, {"session", "list"}, {"keys", "list"}, {"keys", "verify"}, {"keys", "rekey"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := call(t, secrets, append(args, "--database", impatient)...)
			first, _, _ := strings.Cut(got.stderr[strings.LastIndex(strings.TrimSpace(got.stderr), "\n")+1:], " (")
			if got.code != 1 || strings.Contains(first, "SQLSTATE") || !strings.Contains(first, "another session or process kept a table locked") || !strings.Contains(first, "pg_stat_activity") {
				t.Errorf("code %d\n%s", got.code, got.stderr)
			}
		})
	}
}
