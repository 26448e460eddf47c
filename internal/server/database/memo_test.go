package database_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// What a Memo kept is returned until another connection, of this process or of
// another, has changed anything; under AtOneMoment, for the whole request.
func TestMemo(t *testing.T) {
	t.Parallel()
	target := "sqlite:" + filepath.Join(t.TempDir(), "m.db")
	db, other := open(t, target), open(t, target)
	write := func(by *database.DB, query string) {
		t.Helper()
		if _, err := by.Write.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	write(db, "CREATE TABLE t (n INTEGER)")
	memo, reads := database.NewMemo[string, int](db), 0
	get := func(ctx context.Context) int {
		t.Helper()
		n, err := memo.Read(ctx, "count", func() (n int, err error) {
			reads++
			err = db.Read.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n)
			return n, err
		}, func(n int) bool { return n < 4 })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want := func(what string, ctx context.Context, n, readsByNow int) {
		t.Helper()
		if got := get(ctx); got != n || reads != readsByNow {
			t.Errorf("%s: %d after %d reads, want %d after %d", what, got, reads, n, readsByNow)
		}
	}
	want("first", t.Context(), 0, 1)
	want("unchanged", t.Context(), 0, 1)
	request := database.AtOneMoment(t.Context())
	want("at one moment", request, 0, 1)
	write(db, "INSERT INTO t VALUES (1)")
	want("at one moment, after a write", request, 0, 1)
	want("after a write", t.Context(), 1, 2)
	want("at the moment before, no longer kept", request, 1, 3)
	want("the later version stays", t.Context(), 1, 3)
	write(other, "INSERT INTO t VALUES (2)")
	want("after a write by another program", t.Context(), 2, 4)
	write(other, "INSERT INTO t VALUES (3)")
	write(other, "INSERT INTO t VALUES (4)")
	want("too large to be kept", t.Context(), 4, 5)
	want("too large to be kept, again", t.Context(), 4, 6)

	failed := errors.New("failed")
	if _, err := memo.Read(t.Context(), "error", func() (int, error) { return 0, failed }, func(int) bool { return true }); !errors.Is(err, failed) {
		t.Errorf("an error: %v", err)
	}
	if n, err := memo.Read(t.Context(), "error", func() (int, error) { return 7, nil }, func(int) bool { return true }); n != 7 || err != nil {
		t.Errorf("after an error: %d, %v", n, err)
	}
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	db := open(t, "sqlite::memory:") // closes it again
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
