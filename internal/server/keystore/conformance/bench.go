package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// benchKeys is the environment variable that names the size of the large store,
// in keys; ten are one workspace. Without it only an empty store is measured.
const benchKeys = "BYOK_BENCH_KEYS"

// clients is how many callers the parallel benchmarks have per processor.
const clients = 8

// Bench measures every operation on an empty store and on one of
// BYOK_BENCH_KEYS keys. open returns a store of so many keys, in workspaces
// that none of the benchmarks uses.
func Bench(b *testing.B, open func(b *testing.B, keys int) keystore.Store) {
	sizes := []int{0}
	if text := os.Getenv(benchKeys); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatalf("%s: %v", benchKeys, err)
		}
		sizes = append(sizes, n)
	}
	for _, size := range sizes {
		b.Run(fmt.Sprintf("keys=%d", size), func(b *testing.B) { benchStore(b, open(b, size)) })
	}
}

func benchStore(b *testing.B, s keystore.Store) {
	var last atomic.Int64
	add := func(b *testing.B, p keystore.Pool) string {
		id := fmt.Sprintf("bench-%012d", last.Add(1))
		if _, err := s.Add(b.Context(), p, keystore.NewKey{ID: id, Sealed: benchSealed, CreatedBy: "user"}, byok.Cap); err != nil {
			b.Fatal(err)
		}
		return id
	}
	// A pool of its own for each add, so that none is ever full.
	fresh := func() keystore.Pool { return pool(fmt.Sprintf("bench-fresh-%d", last.Add(1)), "openai") }
	full := pool("bench", "openai")
	var id string
	for _, providerID := range []string{"anthropic", "google", "openai"} {
		for range byok.Cap {
			id = add(b, pool("bench", providerID))
		}
	}

	both := func(name string, do func(*testing.B) error) {
		b.Run(name+"/clients=1", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(b); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/clients=many", func(b *testing.B) {
			b.SetParallelism(clients)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := do(b); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	both("Pool10", func(b *testing.B) error { _, err := s.Pool(b.Context(), full); return err })
	both("List30", func(b *testing.B) error { _, err := s.List(b.Context(), full.Owner); return err })
	both("Add", func(b *testing.B) error { add(b, fresh()); return nil })
	both("Replace", func(b *testing.B) error {
		_, err := s.Replace(b.Context(), full, id, keystore.Replacement{Sealed: benchSealed})
		return err
	})
	b.Run("Delete/clients=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			p := fresh()
			id := add(b, p)
			b.StartTimer()
			if err := s.Delete(b.Context(), p, id); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchDisk measures what a durable write costs at least: 8 KiB appended to a
// file and synced.
func BenchDisk(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 8<<10)
	for b.Loop() {
		if _, err := file.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// Fill is the SQL that fills a store: $1 keys in workspaces of ten, with IDs in
// no order, as real ones have none. It is to be completed with a source of the
// numbers n, a random ID and the type of a time.
func Fill(ctx context.Context, exec func(ctx context.Context, query string) error, keys int, numbers, randomID, timeType string) error {
	if keys == 0 {
		return nil
	}
	return exec(ctx, fmt.Sprintf(`INSERT INTO workspace_byok_keys
		(id, workspace_id, provider_id, encrypted_api_key, created_by, created_at, updated_at)
		SELECT %s, 'w-' || (n / 10), 'openai', '%s', 'user', CAST('2026-01-01 00:00:00.000000' AS %s), CAST('2026-01-01 00:00:00.000000' AS %[3]s)
		FROM (%s) numbers`, randomID, benchSealed, timeType, fmt.Sprintf(numbers, keys)))
}

// benchSealed is as long as a sealed key of 51 characters.
const benchSealed = "768cdc88a17fcac50a40c3c4cdcc02cf:" +
	"fa532ce14c1e34cef4d35457e916112a322dfa532ce14c1e34cef4d35457e916112a322dfa532ce14c1e34cef4d35457e91611:" +
	"503b151c4e455659e2d948e774bd9352"
