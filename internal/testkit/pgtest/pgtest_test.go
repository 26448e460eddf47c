//go:build unix

package pgtest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func TestDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	first, second := pgtest.URL(t), pgtest.URL(t)
	if first == second {
		t.Fatalf("both databases are %s", first)
	}
	query(t, first, "CREATE TABLE t (n int)")
	query(t, second, "CREATE TABLE t (n int)")
}

func TestStopLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	pgtest.URL(t) // skips where there is no PostgreSQL
	cluster, err := pgtest.Start(pgtest.WithFsync())
	if err != nil {
		t.Fatal(err)
	}
	url := cluster.URL("postgres")
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, url, "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s, want on", got)
	}
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(config.Host); !os.IsNotExist(err) {
		t.Errorf("the folder %s is still there: %v", config.Host, err)
	}
	if _, err := pgx.Connect(context.Background(), url); err == nil {
		t.Error("the cluster still responds")
	}
}

func TestStartRemovesWhatWasLeftBehind(t *testing.T) {
	pgtest.URL(t) // skips where there is no PostgreSQL
	abandoned, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(abandoned, "claim"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cluster, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cluster.Stop() }()
	if _, err := os.Stat(abandoned); !os.IsNotExist(err) {
		t.Errorf("the folder of a dead test binary is still there: %v", err)
	}
	query(t, pgtest.URL(t), "SELECT 1") // its own cluster is left alone
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	if installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(installed) > 0 {
		t.Skip("PostgreSQL is installed outside of PATH")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := pgtest.Start(); err == nil || !strings.Contains(err.Error(), "install PostgreSQL") {
		t.Errorf("Start without PostgreSQL: %v", err)
	}
}

func query(t *testing.T, url, sql string) (text string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}
