package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// Writes of many pools that all wait leave a third of the connections to reads.
func TestWritesLeaveConnectionsToReads(t *testing.T) {
	t.Parallel()
	const connections, forWrites = 6, 4
	url := pgtest.URL(t)
	db, store := open(t, url+fmt.Sprint("&pool_max_conns=", connections), time.Now)
	pools := make([]keystore.Pool, 2*connections)
	for i := range pools {
		pools[i] = keystore.Pool{Owner: openai.Owner, ProviderID: fmt.Sprint("provider", i)}
		if _, err := store.Add(t.Context(), pools[i], keystore.NewKey{ID: fmt.Sprint("key", i), Sealed: "s"}, byok.Cap); err != nil {
			t.Fatal(err)
		}
	}
	unlock := hold(t, url, "SELECT id FROM workspace_byok_keys FOR UPDATE")
	var waiting sync.WaitGroup
	for i, pool := range pools {
		waiting.Go(func() {
			if _, err := store.Replace(t.Context(), pool, fmt.Sprint("key", i), keystore.Replacement{Sealed: "new"}); err != nil {
				t.Errorf("replace in pool %d: %v", i, err)
			}
		})
	}
	until(t, "as many writes wait as may have a connection", func() bool { return rowsWaitedFor(t, db) == forWrites })
	if keys, err := store.Pool(t.Context(), pools[0]); err != nil || len(keys) != 1 {
		t.Errorf("read while the writes wait: %v, %v", keys, err)
	}
	if got := rowsWaitedFor(t, db); got != forWrites {
		t.Errorf("%d writes have a connection, want %d of %d", got, forWrites, connections)
	}
	unlock()
	waiting.Wait()
}

// A write that gets no connection has changed nothing, and says why.
func TestWriteWithoutConnection(t *testing.T) {
	t.Parallel()
	db, store := open(t, pgtest.URL(t)+"&pool_max_conns=1", time.Now)
	conn, err := db.Postgres.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancelLate()
	for _, tc := range []struct {
		what string
		ctx  context.Context //nolint:containedctx // of one case
		want error
	}{
		{"after the caller's deadline", late, keystore.ErrLockTimeout},
		{"of a caller who has gone", cancelled, context.Canceled},
	} {
		if _, err := store.Add(tc.ctx, openai, keystore.NewKey{ID: "k", Sealed: "s"}, byok.Cap); !errors.Is(err, tc.want) {
			t.Errorf("add %s: %v, want %v", tc.what, err, tc.want)
		}
		if err := store.Delete(tc.ctx, openai, "k"); !errors.Is(err, tc.want) {
			t.Errorf("delete %s: %v, want %v", tc.what, err, tc.want)
		}
	}
	conn.Release()
	db.Postgres.Close()
	if err := store.Delete(t.Context(), openai, "k"); err == nil || errors.Is(err, keystore.ErrLockTimeout) || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("delete without a database: %v", err)
	}
}

// A version that was read along with another question is that of its owner alone, and
// is used once.
func TestListAlong(t *testing.T) {
	t.Parallel()
	db, store := open(t, pgtest.URL(t), time.Now)
	other := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "other"}, ProviderID: "openai"}
	add := func(pool keystore.Pool, id string) {
		t.Helper()
		if _, err := store.Add(t.Context(), pool, keystore.NewKey{ID: id, Sealed: "s"}, byok.Cap); err != nil {
			t.Fatal(err)
		}
	}
	add(openai, "one")
	add(other, "of another")
	willList := func() context.Context {
		t.Helper()
		ctx := store.WillList(t.Context(), openai.Owner)
		if err := db.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(new(int)) }, "SELECT 1"); err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	if _, err := store.List(willList(), openai.Owner); err != nil { // which is kept
		t.Fatal(err)
	}
	ctx := willList()
	add(openai, "two")
	for _, tc := range []struct {
		what  string
		owner keystore.Owner
		want  string
	}{
		{"another owner", other.Owner, "[of another]"},
		{"the owner", openai.Owner, "[one]"},
		{"the owner, again", openai.Owner, "[one two]"},
	} {
		records, err := store.List(ctx, tc.owner)
		var ids []string
		for _, r := range records {
			ids = append(ids, r.ID)
		}
		if got := fmt.Sprint(ids); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.what, got, err, tc.want)
		}
	}
}
