package singlekeys_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/singlekeys"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func TestStore(t *testing.T) {
	t.Parallel()
	pgtest.EachDatabase(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		now := time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)
		first, second := now, now.Add(time.Second)
		s := singlekeys.New(db, func() time.Time { return now })
		put := func(workspaceID, provider, sealed, by string, wantReplaced bool) {
			t.Helper()
			if replaced, err := s.Put(ctx, workspaceID, provider, sealed, by); err != nil || replaced != wantReplaced {
				t.Fatalf("put %s/%s: replaced %t, %v", workspaceID, provider, replaced, err)
			}
		}
		list := func(workspaceID string, want ...singlekeys.Record) {
			t.Helper()
			got, err := s.List(ctx, workspaceID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		list("w")
		put("w", "openai", "sealed-1", "alice", false)
		put("w", "anthropic", "sealed-2", "alice", false)
		put("x", "openai", "sealed-3", "alice", false)
		now = second
		put("w", "openai", "sealed-4", "bob", true)
		openai := singlekeys.Record{Provider: "openai", Sealed: "sealed-4", CreatedBy: "bob", CreatedAt: first, UpdatedAt: second}
		anthropic := singlekeys.Record{Provider: "anthropic", Sealed: "sealed-2", CreatedBy: "alice", CreatedAt: first, UpdatedAt: first}
		list("w", anthropic, openai)
		if err := s.Delete(ctx, "w", "openai"); err != nil {
			t.Error(err)
		}
		list("w", anthropic)
		list("x", singlekeys.Record{Provider: "openai", Sealed: "sealed-3", CreatedBy: "alice", CreatedAt: first, UpdatedAt: first})
		for _, gone := range [][2]string{{"w", "openai"}, {"unknown", "openai"}, {"w\x00", "openai"}, {"w", "\xff"}} {
			if err := s.Delete(ctx, gone[0], gone[1]); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("delete %q: %v", gone, err)
			}
		}
		// What not every database can hold is refused on each.
		for _, bad := range []string{"a\x00b", "\xff"} {
			if _, err := s.Put(ctx, bad, "openai", "s", "a"); !errors.Is(err, keystore.ErrText) {
				t.Errorf("put in %q: %v", bad, err)
			}
			list(bad)
		}
	})
}
