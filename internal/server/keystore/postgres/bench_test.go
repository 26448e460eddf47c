package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/conformance"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// The cluster syncs to disk as one in production does.
func BenchmarkStore(b *testing.B) {
	cluster, err := pgtest.Start(pgtest.WithFsync())
	if err != nil {
		b.Skipf("needs PostgreSQL: %v", err)
	}
	b.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			b.Error(err)
		}
	})
	conformance.Bench(b, func(b *testing.B, keys int) keystore.Store {
		db, store := open(b, cluster.Database(b), time.Now)
		exec := func(ctx context.Context, query string) error {
			_, err := db.Write.ExecContext(ctx, query)
			return err
		}
		if err := conformance.Fill(b.Context(), exec, keys, "SELECT generate_series(0, %d - 1) n",
			"substr(md5(random()::text), 1, 21)", "TIMESTAMP"); err != nil {
			b.Fatal(err)
		}
		// What filling left to do must not be done while something is measured.
		for _, query := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
			if err := exec(b.Context(), query); err != nil {
				b.Fatal(err)
			}
		}
		return store
	})
}

func BenchmarkDiskSync(b *testing.B) { conformance.BenchDisk(b) }
