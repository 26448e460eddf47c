package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/conformance"
)

func BenchmarkStore(b *testing.B) {
	conformance.Bench(b, func(b *testing.B, keys int) keystore.Store {
		db, store := open(b, "sqlite:"+filepath.Join(b.TempDir(), "keys.db"), time.Now)
		err := conformance.Fill(b.Context(), func(ctx context.Context, query string) error {
			_, err := db.Write.ExecContext(ctx, query)
			return err
		}, keys, "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < %d - 1) SELECT n FROM r",
			"lower(hex(randomblob(10)))", "TEXT")
		if err != nil {
			b.Fatal(err)
		}
		// What filling left to do must not be done while something is measured.
		if _, err := db.Write.ExecContext(b.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			b.Fatal(err)
		}
		return store
	})
}

func BenchmarkDiskSync(b *testing.B) { conformance.BenchDisk(b) }
