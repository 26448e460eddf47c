// Package conformance holds what every key store must pass. A backend's test
// calls Run with a function that opens a fresh, empty store.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// Clock is a clock that a test sets.
type Clock struct{ at atomic.Int64 }

// Set makes the clock show t until it is set again.
func (c *Clock) Set(t time.Time) { c.at.Store(t.UnixMicro()) }

// Now returns the time that was set, or the real one.
func (c *Clock) Now() time.Time {
	if at := c.at.Load(); at != 0 {
		return time.UnixMicro(at).UTC()
	}
	return time.Now()
}

// Open opens a fresh, empty store whose clock is clock.
type Open func(t *testing.T, clock *Clock) keystore.Store

var (
	epoch   = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	openai  = keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w1"}, ProviderID: "openai"}
	foreign = []keystore.Pool{
		{Owner: openai.Owner, ProviderID: "anthropic"},
		{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w2"}, ProviderID: "openai"},
		{Owner: keystore.Owner{Scope: keystore.Organization, ID: "w1"}, ProviderID: "openai"},
	}
)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, keystore.Store, *Clock){
		"empty":                  testEmpty,
		"add and list":           testAdd,
		"order":                  testOrder,
		"ties by ID bytes":       testTies,
		"cap":                    testCap,
		"replace in place":       testReplace,
		"delete":                 testDelete,
		"pools are apart":        testPoolsApart,
		"any text":               testAnyText,
		"concurrent adds":        testConcurrentAdds,
		"adds and deletes":       testAddsAndDeletes,
		"cancelled":              testCancelled,
		"provider IDs of owners": testProviderIDs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &Clock{}
			clock.Set(epoch)
			test(t, open(t, clock), clock)
		})
	}
}

func add(t *testing.T, s keystore.Store, pool keystore.Pool, id string) keystore.Record {
	t.Helper()
	record, err := s.Add(t.Context(), pool, keystore.NewKey{ID: id, Sealed: "sealed-" + id, CreatedBy: "user"}, byok.Cap)
	if err != nil {
		t.Fatalf("add %s: %v", id, err)
	}
	return record
}

func list(t *testing.T, s keystore.Store, owner keystore.Owner) []keystore.Record {
	t.Helper()
	records, err := s.List(t.Context(), owner)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return records
}

func poolIDs(t *testing.T, s keystore.Store, pool keystore.Pool) string {
	t.Helper()
	keys, err := s.Pool(t.Context(), pool)
	if err != nil {
		t.Fatalf("pool: %v", err)
	}
	var ids []string
	for _, key := range keys {
		ids = append(ids, key.ID)
		if !strings.HasPrefix(key.Sealed, "sealed-") {
			t.Errorf("key %s has the sealed value %q", key.ID, key.Sealed)
		}
	}
	return strings.Join(ids, " ")
}

func testEmpty(t *testing.T, s keystore.Store, _ *Clock) {
	if got := list(t, s, openai.Owner); len(got) != 0 {
		t.Errorf("an unknown owner has keys: %v", got)
	}
	if got := poolIDs(t, s, openai); got != "" {
		t.Errorf("an empty pool has keys: %v", got)
	}
	if _, err := s.Replace(t.Context(), openai, "nosuch", keystore.Replacement{Sealed: "x"}); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("replace in an empty pool: %v, want ErrNotFound", err)
	}
	if err := s.Delete(t.Context(), openai, "nosuch"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("delete in an empty pool: %v, want ErrNotFound", err)
	}
	if removed, err := s.DeletePool(t.Context(), openai); err != nil || len(removed) != 0 {
		t.Errorf("delete an empty pool: %v, %v", removed, err)
	}
}

func testAdd(t *testing.T, s keystore.Store, _ *Clock) {
	name, by := "prod", "user"
	want := keystore.Record{
		ID: "k1", ProviderID: "openai", Name: &name, Sealed: "sealed-k1",
		CreatedBy: &by, CreatedAt: epoch, UpdatedAt: epoch,
	}
	got, err := s.Add(t.Context(), openai, keystore.NewKey{ID: "k1", Name: &name, Sealed: "sealed-k1", CreatedBy: by}, byok.Cap)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("add (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]keystore.Record{want}, list(t, s, openai.Owner)); diff != "" {
		t.Errorf("list keeps microseconds (-want +got):\n%s", diff)
	}
	if _, err := s.Add(t.Context(), openai, keystore.NewKey{ID: "k1", Sealed: "x", CreatedBy: by}, byok.Cap); err == nil {
		t.Error("a second key of the same ID was added")
	}
}

func testOrder(t *testing.T, s keystore.Store, clock *Clock) {
	var want []string
	for _, provider := range []string{"xai", "google_cloud", "openai", "google", "ollama-cloud"} {
		for i := range 2 {
			// Later keys have earlier IDs: the time decides.
			clock.Set(epoch.Add(time.Duration(i) * time.Microsecond))
			add(t, s, keystore.Pool{Owner: openai.Owner, ProviderID: provider}, fmt.Sprintf("%s-%d", provider, 9-i))
		}
	}
	for _, provider := range []string{"google", "google_cloud", "ollama-cloud", "openai", "xai"} {
		want = append(want, provider+"-9", provider+"-8")
	}
	var got []string
	for _, record := range list(t, s, openai.Owner) {
		got = append(got, record.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if got := poolIDs(t, s, openai); got != "openai-9 openai-8" {
		t.Errorf("pool order %s, want openai-9 openai-8", got)
	}
}

func testTies(t *testing.T, s keystore.Store, _ *Clock) {
	for _, id := range []string{"zz", "aa", "Mm", "_1", "-1"} {
		add(t, s, openai, id)
	}
	if got := poolIDs(t, s, openai); got != "-1 Mm _1 aa zz" {
		t.Errorf("tied keys in order %s, want byte order -1 Mm _1 aa zz", got)
	}
}

func testCap(t *testing.T, s keystore.Store, _ *Clock) {
	for i := range byok.Cap {
		add(t, s, openai, fmt.Sprintf("k%02d", i))
	}
	if _, err := s.Add(t.Context(), openai, keystore.NewKey{ID: "k10", Sealed: "x", CreatedBy: "u"}, byok.Cap); !errors.Is(err, keystore.ErrFull) {
		t.Fatalf("an eleventh key: %v, want ErrFull", err)
	}
	for _, other := range foreign {
		add(t, s, other, "other-"+other.ProviderID+other.ID+string(other.Scope))
	}
	if _, err := s.Replace(t.Context(), openai, "k03", keystore.Replacement{Sealed: "sealed-new"}); err != nil {
		t.Errorf("replace in a full pool: %v", err)
	}
	if err := s.Delete(t.Context(), openai, "k05"); err != nil {
		t.Fatal(err)
	}
	add(t, s, openai, "k99")
	if got := len(list(t, s, openai.Owner)); got != byok.Cap+1 {
		t.Errorf("%d keys, want %d", got, byok.Cap+1)
	}
}

func testReplace(t *testing.T, s keystore.Store, clock *Clock) {
	name := "first"
	if _, err := s.Add(t.Context(), openai, keystore.NewKey{ID: "k1", Name: &name, Sealed: "sealed-1", CreatedBy: "user"}, byok.Cap); err != nil {
		t.Fatal(err)
	}
	clock.Set(epoch.Add(time.Second))
	add(t, s, openai, "k2")

	text := func(s string) *string { return &s }
	for i, step := range []struct {
		name *string
		want *string
	}{
		{nil, text("first")}, {text("second"), text("second")}, {nil, text("second")}, {text(""), nil}, {nil, nil}, {text("third"), text("third")},
	} {
		at := epoch.Add(time.Duration(i+2) * time.Second)
		clock.Set(at)
		sealed := fmt.Sprintf("sealed-%d", i)
		got, err := s.Replace(t.Context(), openai, "k1", keystore.Replacement{Sealed: sealed, Name: step.name})
		if err != nil {
			t.Fatal(err)
		}
		want := keystore.Record{ID: "k1", ProviderID: "openai", Name: step.want, Sealed: sealed, CreatedBy: text("user"), CreatedAt: epoch, UpdatedAt: at}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(want, list(t, s, openai.Owner)[0]); diff != "" {
			t.Errorf("step %d: position or record changed (-want +got):\n%s", i, diff)
		}
	}
}

func testDelete(t *testing.T, s keystore.Store, _ *Clock) {
	for _, id := range []string{"a", "b", "c"} {
		add(t, s, openai, id)
	}
	if err := s.Delete(t.Context(), openai, "b"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), openai, "b"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("delete twice: %v, want ErrNotFound", err)
	}
	if got := poolIDs(t, s, openai); got != "a c" {
		t.Errorf("pool %s, want a c", got)
	}
	removed, err := s.DeletePool(t.Context(), openai)
	slices.Sort(removed)
	if err != nil || !slices.Equal(removed, []string{"a", "c"}) {
		t.Errorf("delete pool: %v, %v; want a and c", removed, err)
	}
}

func testPoolsApart(t *testing.T, s keystore.Store, _ *Clock) {
	add(t, s, openai, "k1")
	for _, other := range foreign {
		if _, err := s.Replace(t.Context(), other, "k1", keystore.Replacement{Sealed: "x"}); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("replace through %v: %v, want ErrNotFound", other, err)
		}
		if err := s.Delete(t.Context(), other, "k1"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("delete through %v: %v, want ErrNotFound", other, err)
		}
		if _, err := s.DeletePool(t.Context(), other); err != nil {
			t.Error(err)
		}
	}
	if got := poolIDs(t, s, openai); got != "k1" {
		t.Errorf("pool %q, want k1", got)
	}
}

func testAnyText(t *testing.T, s keystore.Store, _ *Clock) {
	name := "naïve 🔑 '\"\\; DROP TABLE"
	pool := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "wö'--"}, ProviderID: "openai"}
	sealed := "sealed-" + strings.Repeat("0f", 1<<20)
	if _, err := s.Add(t.Context(), pool, keystore.NewKey{ID: "k", Name: &name, Sealed: sealed, CreatedBy: "u"}, byok.Cap); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, pool.Owner)[0]; *got.Name != name || got.Sealed != sealed {
		t.Errorf("stored name %q and %d sealed bytes, want %q and %d", *got.Name, len(got.Sealed), name, len(sealed))
	}
}

func testConcurrentAdds(t *testing.T, s keystore.Store, clock *Clock) {
	clock.at.Store(0) // the real clock: CreatedAt follows the turn
	other := foreign[0]
	var full, added atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		pool := openai
		if i%2 == 1 {
			pool = other
		}
		wg.Go(func() {
			_, err := s.Add(t.Context(), pool, keystore.NewKey{ID: fmt.Sprintf("k%02d", i), Sealed: "sealed-", CreatedBy: "u"}, byok.Cap)
			switch {
			case err == nil:
				added.Add(1)
			case errors.Is(err, keystore.ErrFull):
				full.Add(1)
			default:
				t.Errorf("add: %v", err)
			}
		})
	}
	wg.Wait()
	if added.Load() != 20 || full.Load() != 20 {
		t.Errorf("%d added and %d refused of 40 on two pools, want 20 and 20", added.Load(), full.Load())
	}
	if got := len(list(t, s, openai.Owner)); got != 20 {
		t.Errorf("%d keys stored, want 20", got)
	}
}

func testAddsAndDeletes(t *testing.T, s keystore.Store, _ *Clock) {
	var wg sync.WaitGroup
	var left atomic.Int64
	for worker := range 6 {
		wg.Go(func() {
			for i := range 15 {
				id := fmt.Sprintf("w%d-%02d", worker, i)
				_, err := s.Add(t.Context(), openai, keystore.NewKey{ID: id, Sealed: "sealed-", CreatedBy: "u"}, 4)
				if errors.Is(err, keystore.ErrFull) {
					continue
				}
				if err != nil {
					t.Errorf("add: %v", err)
					continue
				}
				left.Add(1)
				if keys, err := s.Pool(t.Context(), openai); err != nil || len(keys) > 4 {
					t.Errorf("the pool holds %d keys, cap 4 (%v)", len(keys), err)
				}
				if i%3 != 0 {
					if err := s.Delete(t.Context(), openai, id); err != nil {
						t.Errorf("delete: %v", err)
					}
					left.Add(-1)
				}
			}
		})
	}
	wg.Wait()
	if got := int64(len(list(t, s, openai.Owner))); got != left.Load() {
		t.Errorf("%d keys stored, want %d", got, left.Load())
	}
}

func testCancelled(t *testing.T, s keystore.Store, _ *Clock) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Add(ctx, openai, keystore.NewKey{ID: "k", Sealed: "x", CreatedBy: "u"}, byok.Cap); !errors.Is(err, context.Canceled) {
		t.Errorf("add under a cancelled context: %v", err)
	}
	if got := list(t, s, openai.Owner); len(got) != 0 {
		t.Errorf("a cancelled add stored %v", got)
	}
}

func testProviderIDs(t *testing.T, s keystore.Store, _ *Clock) {
	for i, provider := range []string{"xai", "openai", "xai", "anthropic"} {
		add(t, s, keystore.Pool{Owner: openai.Owner, ProviderID: provider}, fmt.Sprint(i))
	}
	got, err := s.ProviderIDs(t.Context(), openai.Owner)
	if want := []string{"anthropic", "openai", "xai"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("provider IDs %v, %v; want %v", got, err, want)
	}
}
