// Package conformance holds what every keystore.Store must do. A backend passes
// it in three lines, of its own tests:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, func(t *testing.T, now func() time.Time) keystore.Store { ... })
//	}
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

// Open returns a store on an empty database, which closes with the test.
type Open func(t *testing.T, now func() time.Time) keystore.Store

// Run runs the suite, each test on a database of its own.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"empty store", testEmpty},
		{"add returns and stores every field", testAddFields},
		{"microseconds are kept, finer digits cut", testMicroseconds},
		{"list order", testListOrder},
		{"keys of one instant order by the bytes of their IDs", testTies},
		{"a clock that is set back does not lose keys", testClockSetBack},
		{"cap", testCap},
		{"cap after a delete", testCapAfterDelete},
		{"duplicate key ID", testDuplicateID},
		{"replace in place", testReplace},
		{"replace names", testReplaceNames},
		{"replace in a full pool", testReplaceInFullPool},
		{"delete", testDelete},
		{"delete pool", testDeletePool},
		{"other pools are out of reach", testOtherPools},
		{"provider IDs", testProviderIDs},
		{"texts are kept verbatim", testTexts},
		{"texts that cannot be stored", testUnstorableTexts},
		{"long keys are left out of lists and read one at a time", testLongKeys},
		{"20 adds at once store exactly 10", testConcurrentAdds},
		{"two pools fill at once", testConcurrentPools},
		{"adds racing deletes never exceed the cap", testAddsRacingDeletes},
		{"replaces race: the last one is whole", testConcurrentReplaces},
		{"reads during writes", testReadsDuringWrites},
		{"an ended context changes nothing", testEndedContext},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := &clock{}
			c.set(time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC))
			test.run(t, &fixture{Store: open(t, c.now), clock: c})
		})
	}
}

// fixture is a store and the clock behind it, which stands still between ticks.
type fixture struct {
	keystore.Store
	clock *clock
}

type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) now() time.Time      { return *c.at.Load() }
func (c *clock) set(at time.Time)    { c.at.Store(&at) }
func (c *clock) add(d time.Duration) { c.set(c.now().Add(d)) }

// pool returns the pool of a provider ID in a workspace.
func pool(workspace, providerID string) keystore.Pool {
	return keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: workspace}, ProviderID: providerID}
}

func orgPool(organization, providerID string) keystore.Pool {
	return keystore.Pool{Owner: keystore.Owner{Scope: keystore.Organization, ID: organization}, ProviderID: providerID}
}

// add adds a key of that ID, and ticks.
func (f *fixture) add(t *testing.T, p keystore.Pool, id string) keystore.Record {
	t.Helper()
	record, err := f.Add(t.Context(), p, keystore.NewKey{ID: id, Sealed: "sealed-" + id, CreatedBy: "user"}, byok.Cap)
	if err != nil {
		t.Fatalf("add %s: %v", id, err)
	}
	f.clock.add(time.Millisecond)
	return record
}

func (f *fixture) ids(t *testing.T, p keystore.Pool) string {
	t.Helper()
	keys, err := f.Pool(t.Context(), p)
	if err != nil {
		t.Fatalf("read pool: %v", err)
	}
	ids := make([]string, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return strings.Join(ids, " ")
}

func (f *fixture) list(t *testing.T, owner keystore.Owner) []keystore.Record {
	t.Helper()
	records, err := f.List(t.Context(), owner)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return records
}

func (f *fixture) wantIDs(t *testing.T, p keystore.Pool, want string) {
	t.Helper()
	if got := f.ids(t, p); got != want {
		t.Errorf("pool %s of %s %s is [%s], want [%s]", p.ProviderID, p.Scope, p.ID, got, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func testEmpty(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	f.wantIDs(t, p, "")
	if got := f.list(t, p.Owner); len(got) != 0 {
		t.Errorf("list of an empty store: %v", got)
	}
	if got, err := f.ProviderIDs(t.Context(), p.Owner); len(got) != 0 || err != nil {
		t.Errorf("provider IDs of an empty store: %v, %v", got, err)
	}
	if got, err := f.DeletePool(t.Context(), p); len(got) != 0 || err != nil {
		t.Errorf("delete of an empty pool: %v, %v", got, err)
	}
	wantErr(t, "delete of a missing key", f.Delete(t.Context(), p, "k"), keystore.ErrNotFound)
	_, err := f.Replace(t.Context(), p, "k", keystore.Replacement{Sealed: "s"})
	wantErr(t, "replace of a missing key", err, keystore.ErrNotFound)
}

func testAddFields(t *testing.T, f *fixture) {
	for _, p := range []keystore.Pool{pool("w", "openai"), orgPool("w", "openai")} {
		for _, key := range []keystore.NewKey{
			{ID: string(p.Scope) + "-full", Name: new("Main"), Sealed: "aa:bb:cc", CreatedBy: "u1"},
			{ID: string(p.Scope) + "-bare", Sealed: "dd:ee:ff"},
			{ID: string(p.Scope) + "-empty", Name: new(""), Sealed: "00:11:22"},
		} {
			at := f.clock.now()
			got, err := f.Add(t.Context(), p, key, byok.Cap)
			if err != nil {
				t.Fatal(err)
			}
			want := keystore.Record{
				ID: key.ID, ProviderID: "openai", Name: keystore.Optional(keystore.Text(key.Name)), Sealed: key.Sealed,
				CreatedBy: keystore.Optional(key.CreatedBy), CreatedAt: at, UpdatedAt: at,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("add returned (-want +got):\n%s", diff)
			}
			stored := f.list(t, p.Owner)
			if diff := cmp.Diff(want, stored[len(stored)-1]); diff != "" {
				t.Errorf("list returned (-want +got):\n%s", diff)
			}
			f.clock.add(time.Second)
		}
	}
}

func testMicroseconds(t *testing.T, f *fixture) {
	f.clock.set(time.Date(2026, 1, 2, 4, 4, 5, 123456789, time.FixedZone("", 3600)))
	record := f.add(t, pool("w", "openai"), "k")
	want := time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC)
	stored := f.list(t, pool("w", "openai").Owner)[0]
	for what, got := range map[string]time.Time{"added": record.CreatedAt, "stored": stored.CreatedAt, "updated": stored.UpdatedAt} {
		if got != want {
			t.Errorf("%s at %v, want %v", what, got, want)
		}
	}
	// A year end and a time without fraction must order and read back too.
	for i, at := range []time.Time{time.Date(2026, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)} {
		f.clock.set(at)
		f.add(t, pool("w", "openai"), fmt.Sprint("y", i))
	}
	f.wantIDs(t, pool("w", "openai"), "k y0 y1")
	if got := f.list(t, pool("w", "openai").Owner)[2].CreatedAt; got != time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) {
		t.Errorf("a whole second reads back as %v", got)
	}
}

func testListOrder(t *testing.T, f *fixture) {
	// Added in an order that is none of theirs. In a linguistic collation - and _
	// are ignored and case is folded; in byte order they are not.
	for _, add := range []struct{ providerID, id string }{
		{"zai", "a"}, {"ollama-cloud", "c"}, {"google_cloud", "z"}, {"google", "b"}, {"openai", "m"},
		{"googlea", "n"}, {"google", "A"}, {"Zed", "d"}, {"google-cloud", "e"}, {"openai", "B"}, {"zai", "-"},
	} {
		f.add(t, pool("w", add.providerID), add.id)
	}
	f.add(t, pool("other", "anthropic"), "elsewhere")
	var got []string
	for _, record := range f.list(t, pool("w", "").Owner) {
		got = append(got, record.ProviderID+"/"+record.ID)
	}
	want := []string{
		"Zed/d", "google/b", "google/A", "google-cloud/e", "google_cloud/z", "googlea/n",
		"ollama-cloud/c", "openai/m", "openai/B", "zai/a", "zai/-",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list order (-want +got):\n%s", diff)
	}
}

func testTies(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	at := f.clock.now()
	for _, id := range []string{"b", "_", "a", "B", "-", "Z", "0"} {
		f.clock.set(at)
		f.add(t, p, id)
	}
	f.wantIDs(t, p, "- 0 B Z _ a b")
	var listed []string
	for _, record := range f.list(t, p.Owner) {
		listed = append(listed, record.ID)
	}
	if got := strings.Join(listed, " "); got != "- 0 B Z _ a b" {
		t.Errorf("list and pool disagree on the order: %s", got)
	}
}

func testClockSetBack(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	f.add(t, p, "late")
	f.clock.add(-time.Hour)
	f.add(t, p, "early")
	f.wantIDs(t, p, "early late")
}

func testCap(t *testing.T, f *fixture) {
	for _, p := range []keystore.Pool{pool("w", "openai"), orgPool("o", "openai")} {
		for i := range byok.Cap {
			f.add(t, p, fmt.Sprintf("%s-%d", p.Scope, i))
		}
		before := f.ids(t, p)
		_, err := f.Add(t.Context(), p, keystore.NewKey{ID: "one-more", Sealed: "s"}, byok.Cap)
		wantErr(t, "add to a full pool", err, keystore.ErrFull)
		f.wantIDs(t, p, before)
	}
	// Other pools have their own cap, and a smaller limit counts at once.
	f.add(t, pool("w", "anthropic"), "other-provider-id")
	f.add(t, pool("v", "openai"), "other-workspace")
	_, err := f.Add(t.Context(), pool("w", "anthropic"), keystore.NewKey{ID: "second", Sealed: "s"}, 1)
	wantErr(t, "add over a limit of 1", err, keystore.ErrFull)
}

func testCapAfterDelete(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	for i := range byok.Cap {
		f.add(t, p, fmt.Sprint(i))
	}
	if err := f.Delete(t.Context(), p, "3"); err != nil {
		t.Fatal(err)
	}
	f.add(t, p, "new")
	f.wantIDs(t, p, "0 1 2 4 5 6 7 8 9 new")
}

func testDuplicateID(t *testing.T, f *fixture) {
	f.add(t, pool("w", "openai"), "k")
	for _, p := range []keystore.Pool{pool("w", "openai"), pool("v", "google")} {
		_, err := f.Add(t.Context(), p, keystore.NewKey{ID: "k", Sealed: "other"}, byok.Cap)
		if err == nil || errors.Is(err, keystore.ErrFull) || errors.Is(err, keystore.ErrLockTimeout) {
			t.Errorf("second key of one ID: %v, want an error of the database", err)
		}
	}
	f.wantIDs(t, pool("w", "openai"), "k")
	f.wantIDs(t, pool("v", "google"), "")
	if got := f.list(t, pool("w", "").Owner)[0].Sealed; got != "sealed-k" {
		t.Errorf("the first key now holds %s", got)
	}
	f.add(t, pool("w", "openai"), "after")
}

func testReplace(t *testing.T, f *fixture) {
	for _, p := range []keystore.Pool{pool("w", "openai"), orgPool("o", "openai")} {
		id := func(n string) string { return string(p.Scope) + n }
		first := f.add(t, p, id("1"))
		f.add(t, p, id("2"))
		f.add(t, p, id("3"))
		f.clock.add(time.Minute)
		got, err := f.Replace(t.Context(), p, id("1"), keystore.Replacement{Sealed: "new"})
		if err != nil {
			t.Fatal(err)
		}
		want := first
		want.Sealed, want.UpdatedAt = "new", f.clock.now()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("replace returned (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, f.list(t, p.Owner)[0]); diff != "" {
			t.Errorf("replace stored (-want +got):\n%s", diff)
		}
		keys, err := f.Pool(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if want := []keystore.SealedKey{{ID: id("1"), Sealed: "new"}, {ID: id("2"), Sealed: "sealed-" + id("2")}, {ID: id("3"), Sealed: "sealed-" + id("3")}}; !slices.Equal(keys, want) {
			t.Errorf("pool after a replace: %v, want %v", keys, want)
		}
		// The same secret again still moves the time.
		f.clock.add(time.Millisecond)
		if again, err := f.Replace(t.Context(), p, id("1"), keystore.Replacement{Sealed: "new"}); err != nil || !again.UpdatedAt.After(got.UpdatedAt) {
			t.Errorf("replace by the same value: updated at %v after %v, %v", again.UpdatedAt, got.UpdatedAt, err)
		}
	}
}

func testReplaceNames(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	f.add(t, p, "k")
	for _, step := range []struct {
		set  *string
		want string
	}{{nil, ""}, {new("Main"), "Main"}, {nil, "Main"}, {new("Spare"), "Spare"}, {new(""), ""}, {nil, ""}, {new("Main"), "Main"}} {
		got, err := f.Replace(t.Context(), p, "k", keystore.Replacement{Sealed: "s", Name: step.set})
		if err != nil {
			t.Fatal(err)
		}
		stored := f.list(t, p.Owner)[0]
		if diff := cmp.Diff(keystore.Optional(step.want), got.Name); diff != "" {
			t.Errorf("replace returned the name (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(keystore.Optional(step.want), stored.Name); diff != "" {
			t.Errorf("replace stored the name (-want +got):\n%s", diff)
		}
	}
}

func testReplaceInFullPool(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	for i := range byok.Cap {
		f.add(t, p, fmt.Sprint(i))
	}
	if _, err := f.Replace(t.Context(), p, "5", keystore.Replacement{Sealed: "new"}); err != nil {
		t.Errorf("replace in a full pool: %v", err)
	}
	f.wantIDs(t, p, "0 1 2 3 4 5 6 7 8 9")
}

func testDelete(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	for _, id := range []string{"a", "b", "c"} {
		f.add(t, p, id)
	}
	if err := f.Delete(t.Context(), p, "b"); err != nil {
		t.Fatal(err)
	}
	f.wantIDs(t, p, "a c")
	wantErr(t, "second delete", f.Delete(t.Context(), p, "b"), keystore.ErrNotFound)
	f.wantIDs(t, p, "a c")
}

func testDeletePool(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	for _, id := range []string{"a", "b", "c"} {
		f.add(t, p, id)
	}
	f.add(t, pool("w", "google"), "d")
	f.add(t, pool("v", "openai"), "e")
	f.add(t, orgPool("w", "openai"), "f")
	got, err := f.DeletePool(t.Context(), p)
	slices.Sort(got)
	if want := []string{"a", "b", "c"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("DeletePool = %v, %v; want %v", got, err, want)
	}
	f.wantIDs(t, p, "")
	f.wantIDs(t, pool("w", "google"), "d")
	f.wantIDs(t, pool("v", "openai"), "e")
	f.wantIDs(t, orgPool("w", "openai"), "f")
}

func testOtherPools(t *testing.T, f *fixture) {
	f.add(t, pool("w", "openai"), "k")
	f.add(t, orgPool("w", "openai"), "o")
	for name, p := range map[string]keystore.Pool{
		"another provider ID":              pool("w", "google"),
		"another workspace":                pool("v", "openai"),
		"an organization of the same ID":   orgPool("w", "openai"),
		"a provider ID in another case":    pool("w", "OpenAI"),
		"a workspace ID in another case":   pool("W", "openai"),
		"a workspace ID with a blank more": pool("w ", "openai"),
	} {
		_, err := f.Replace(t.Context(), p, "k", keystore.Replacement{Sealed: "stolen"})
		wantErr(t, "replace through "+name, err, keystore.ErrNotFound)
		wantErr(t, "delete through "+name, f.Delete(t.Context(), p, "k"), keystore.ErrNotFound)
	}
	wantErr(t, "delete by a prefix", f.Delete(t.Context(), pool("w", "openai"), ""), keystore.ErrNotFound)
	wantErr(t, "delete by a pattern", f.Delete(t.Context(), pool("w", "openai"), "%"), keystore.ErrNotFound)
	if got := f.list(t, pool("w", "").Owner); len(got) != 1 || got[0].Sealed != "sealed-k" {
		t.Errorf("the workspace now holds %v", got)
	}
	f.wantIDs(t, orgPool("w", "openai"), "o")
}

func testProviderIDs(t *testing.T, f *fixture) {
	for i, providerID := range []string{"zai", "openai", "google_cloud", "google", "openai", "Zed"} {
		f.add(t, pool("w", providerID), fmt.Sprint(i))
		f.add(t, orgPool("w", "org-"+providerID), fmt.Sprint("o", i))
	}
	f.add(t, pool("v", "exa"), "v")
	for _, c := range []struct {
		owner keystore.Owner
		want  []string
	}{
		{pool("w", "").Owner, []string{"Zed", "google", "google_cloud", "openai", "zai"}},
		{orgPool("w", "").Owner, []string{"org-Zed", "org-google", "org-google_cloud", "org-openai", "org-zai"}},
		{pool("v", "").Owner, []string{"exa"}},
		{orgPool("v", "").Owner, nil},
	} {
		if got, err := f.ProviderIDs(t.Context(), c.owner); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("provider IDs of %v: %v, %v; want %v", c.owner, got, err, c.want)
		}
	}
}

func testTexts(t *testing.T, f *fixture) {
	for i, text := range []string{
		" blanks ", "tab\tand\nnewline", `quotes '"` + "`", "'; DROP TABLE workspace_byok_keys; --", "$1 ? :name @x %s",
		"emoji 🔑", "replacement \uFFFD", "bom \uFEFF", "rtl \u202E", "e\u0301 is not é", "\x01\x7f", strings.Repeat("k", 1<<20),
	} {
		p := pool("w"+text, "p"+text)
		id := fmt.Sprint(i, text)
		if len(id) > 1000 {
			id, p = fmt.Sprint(i), pool("w", "p")
		}
		record, err := f.Add(t.Context(), p, keystore.NewKey{ID: id, Name: &text, Sealed: text, CreatedBy: text}, byok.Cap)
		if err != nil {
			t.Fatalf("add %.20q: %v", text, err)
		}
		stored := f.visited(t, p.Owner)
		if len(stored) != 1 || cmp.Diff(record, stored[0]) != "" || stored[0].Sealed != text || *stored[0].Name != text {
			t.Errorf("%.20q is not stored verbatim", text)
		}
		if _, err := f.Replace(t.Context(), p, id, keystore.Replacement{Sealed: text + "!", Name: new(text + "!")}); err != nil {
			t.Errorf("replace %.20q: %v", text, err)
		}
		if err := f.Delete(t.Context(), p, id); err != nil {
			t.Errorf("delete %.20q: %v", text, err)
		}
	}
}

// visited is list with whole sealed values.
func (f *fixture) visited(t *testing.T, owner keystore.Owner) (all []keystore.Record) {
	t.Helper()
	err := f.Visit(t.Context(), owner, func(r keystore.Record) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatalf("visit: %v", err)
	}
	return all
}

func testLongKeys(t *testing.T, f *fixture) {
	for _, p := range []keystore.Pool{pool("w", "openai"), orgPool("w", "openai")} {
		scope := string(p.Scope)
		limit := strings.Repeat("s", keystore.InlineLimit)
		texts := []string{"short", limit, limit + "s", "last"}
		for i, text := range texts {
			if _, err := f.Add(t.Context(), p, keystore.NewKey{ID: fmt.Sprint(scope, i), Sealed: text}, byok.Cap); err != nil {
				t.Fatal(err)
			}
			f.clock.add(time.Millisecond)
		}
		listed, visited := f.list(t, p.Owner), f.visited(t, p.Owner)
		pooled, err := f.Pool(t.Context(), p)
		if err != nil || len(listed) != len(texts) || len(visited) != len(texts) || len(pooled) != len(texts) {
			t.Fatalf("%d listed, %d visited, %d in the pool, %v", len(listed), len(visited), len(pooled), err)
		}
		for i, text := range texts {
			inline := text
			if len(text) > keystore.InlineLimit {
				inline = ""
			}
			sealed, err := f.Sealed(t.Context(), p, listed[i].ID)
			if listed[i].Sealed != inline || pooled[i].Sealed != inline || sealed != text || err != nil {
				t.Errorf("key %d: %d bytes listed, %d in the pool, %d alone, %v", i, len(listed[i].Sealed), len(pooled[i].Sealed), len(sealed), err)
			}
			listed[i].Sealed = text
		}
		if diff := cmp.Diff(listed, visited); diff != "" {
			t.Errorf("visit differs from list (-list +visit):\n%s", diff)
		}
		_, err = f.Sealed(t.Context(), p, "none")
		wantErr(t, "sealed value of a missing key", err, keystore.ErrNotFound)
		_, err = f.Sealed(t.Context(), pool("v", "openai"), scope+"0")
		wantErr(t, "sealed value of another workspace's key", err, keystore.ErrNotFound)
		stop := errors.New("stop")
		calls := 0
		err = f.Visit(t.Context(), p.Owner, func(keystore.Record) error { calls++; return stop })
		if wantErr(t, "visit", err, stop); calls != 1 {
			t.Errorf("visit went on for %d keys after an error", calls-1)
		}
	}
}

func testUnstorableTexts(t *testing.T, f *fixture) {
	good := pool("w", "openai")
	f.add(t, good, "k")
	for _, bad := range []string{"a\x00b", "\x00", "k\x00", "\xff", "\xed\xa0\x80"} {
		for name, key := range map[string]keystore.NewKey{
			"ID":     {ID: bad, Sealed: "s"},
			"name":   {ID: "n", Sealed: "s", Name: &bad},
			"sealed": {ID: "n", Sealed: bad},
			"user":   {ID: "n", Sealed: "s", CreatedBy: bad},
		} {
			_, err := f.Add(t.Context(), good, key, byok.Cap)
			wantErr(t, fmt.Sprintf("add with %s %q", name, bad), err, keystore.ErrText)
		}
		_, err := f.Replace(t.Context(), good, "k", keystore.Replacement{Sealed: bad})
		wantErr(t, fmt.Sprintf("replace by %q", bad), err, keystore.ErrText)
		_, err = f.Replace(t.Context(), good, bad, keystore.Replacement{Sealed: "s"})
		wantErr(t, fmt.Sprintf("replace of %q", bad), err, keystore.ErrNotFound)
		wantErr(t, fmt.Sprintf("delete of %q", bad), f.Delete(t.Context(), good, bad), keystore.ErrNotFound)
		for _, p := range []keystore.Pool{pool(bad, "openai"), pool("w", bad)} {
			_, err := f.Add(t.Context(), p, keystore.NewKey{ID: "n", Sealed: "s"}, byok.Cap)
			wantErr(t, fmt.Sprintf("add to %q", p), err, keystore.ErrText)
			wantErr(t, fmt.Sprintf("delete from %q", p), f.Delete(t.Context(), p, "k"), keystore.ErrNotFound)
			f.wantIDs(t, p, "")
			if ids, err := f.DeletePool(t.Context(), p); len(ids) != 0 || err != nil {
				t.Errorf("delete of pool %q: %v, %v", p, ids, err)
			}
		}
		if got := f.list(t, keystore.Owner{Scope: keystore.Workspace, ID: bad}); len(got) != 0 {
			t.Errorf("list of %q: %v", bad, got)
		}
		if got, err := f.ProviderIDs(t.Context(), keystore.Owner{Scope: keystore.Workspace, ID: bad}); len(got) != 0 || err != nil {
			t.Errorf("provider IDs of %q: %v, %v", bad, got, err)
		}
	}
	f.wantIDs(t, good, "k")
}

func testConcurrentAdds(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	if added, full := addAll(t, []keystore.Store{f.Store}, p, 20); added != byok.Cap || full != 20-byok.Cap {
		t.Errorf("%d adds succeeded and %d found the pool full, want %d and %d", added, full, byok.Cap, 20-byok.Cap)
	}
	if got := len(f.list(t, p.Owner)); got != byok.Cap {
		t.Errorf("the pool holds %d keys, want %d", got, byok.Cap)
	}
}

// addAll adds n keys to one pool at once, through the stores in turn.
func addAll(t *testing.T, stores []keystore.Store, p keystore.Pool, n int) (added, full int) {
	t.Helper()
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			_, err := stores[i%len(stores)].Add(t.Context(), p, keystore.NewKey{ID: fmt.Sprintf("%s-%d", p.ProviderID, i), Sealed: "s"}, byok.Cap)
			switch {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, keystore.ErrFull):
				refused.Add(1)
			default:
				t.Errorf("add: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(ok.Load()), int(refused.Load())
}

func testConcurrentPools(t *testing.T, f *fixture) {
	var wg sync.WaitGroup
	for _, p := range []keystore.Pool{pool("w", "openai"), pool("w", "google")} {
		wg.Go(func() {
			if added, full := addAll(t, []keystore.Store{f.Store}, p, 15); added != byok.Cap || full != 15-byok.Cap {
				t.Errorf("pool %s: %d added, %d refused", p.ProviderID, added, full)
			}
		})
	}
	wg.Wait()
	if got := len(f.list(t, pool("w", "").Owner)); got != 2*byok.Cap {
		t.Errorf("the workspace holds %d keys, want %d", got, 2*byok.Cap)
	}
}

func testAddsRacingDeletes(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	const adders, rounds = 4, 25
	var wg sync.WaitGroup
	var balance atomic.Int64
	for a := range adders {
		wg.Go(func() {
			for i := range rounds {
				id := fmt.Sprintf("%d-%d", a, i)
				switch _, err := f.Add(t.Context(), p, keystore.NewKey{ID: id, Sealed: "s"}, byok.Cap); {
				case err == nil:
					balance.Add(1)
				case !errors.Is(err, keystore.ErrFull):
					t.Errorf("add: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				keys, err := f.Pool(t.Context(), p)
				if err != nil || len(keys) > byok.Cap {
					t.Errorf("the pool holds %d keys, %v", len(keys), err)
				}
				if len(keys) == 0 {
					continue
				}
				switch err := f.Delete(t.Context(), p, keys[0].ID); {
				case err == nil:
					balance.Add(-1)
				case !errors.Is(err, keystore.ErrNotFound):
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(f.list(t, p.Owner)); got != int(balance.Load()) {
		t.Errorf("the pool holds %d keys, adds minus deletes are %d", got, balance.Load())
	}
}

func testConcurrentReplaces(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	f.add(t, p, "k")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			text := fmt.Sprint(i)
			got, err := f.Replace(t.Context(), p, "k", keystore.Replacement{Sealed: text, Name: &text})
			if err != nil || got.Sealed != text || *got.Name != text {
				t.Errorf("replace %s returned %v, %v", text, got, err)
			}
		})
	}
	wg.Wait()
	if got := f.list(t, p.Owner)[0]; got.Sealed != *got.Name {
		t.Errorf("value %s and name %s come from different replaces", got.Sealed, *got.Name)
	}
}

func testReadsDuringWrites(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for seen := 0; ; {
				keys, err := f.Pool(t.Context(), p)
				if err != nil {
					t.Errorf("read pool: %v", err)
					return
				}
				if len(keys) < seen {
					t.Errorf("saw %d keys after %d", len(keys), seen)
					return
				}
				seen = len(keys)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range byok.Cap {
		f.add(t, p, fmt.Sprint(i))
		// What was acknowledged is seen by the next read.
		if got := len(strings.Fields(f.ids(t, p))); got != i+1 {
			t.Errorf("%d keys after %d adds", got, i+1)
		}
	}
	close(done)
	wg.Wait()
}

func testEndedContext(t *testing.T, f *fixture) {
	p := pool("w", "openai")
	f.add(t, p, "k")
	before := f.list(t, p.Owner)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Add(ctx, p, keystore.NewKey{ID: "n", Sealed: "s"}, byok.Cap)
	wantErr(t, "add", err, context.Canceled)
	_, err = f.Replace(ctx, p, "k", keystore.Replacement{Sealed: "s"})
	wantErr(t, "replace", err, context.Canceled)
	wantErr(t, "delete", f.Delete(ctx, p, "k"), context.Canceled)
	_, err = f.DeletePool(ctx, p)
	wantErr(t, "delete pool", err, context.Canceled)
	_, err = f.Pool(ctx, p)
	wantErr(t, "pool", err, context.Canceled)
	_, err = f.List(ctx, p.Owner)
	wantErr(t, "list", err, context.Canceled)
	_, err = f.ProviderIDs(ctx, p.Owner)
	wantErr(t, "provider IDs", err, context.Canceled)
	_, err = f.Sealed(ctx, p, "k")
	wantErr(t, "sealed value", err, context.Canceled)
	wantErr(t, "visit", f.Visit(ctx, p.Owner, func(keystore.Record) error { return nil }), context.Canceled)
	if diff := cmp.Diff(before, f.list(t, p.Owner)); diff != "" {
		t.Errorf("a call with an ended context changed the store (-before +after):\n%s", diff)
	}
}

// RunInstances checks several stores that share one database, as several
// servers do: what one did, all see, and 200 adds at once fill a pool once.
func RunInstances(t *testing.T, stores []keystore.Store) {
	t.Helper()
	p := pool("w", "openai")
	if added, full := addAll(t, stores, p, 200); added != byok.Cap || full != 200-byok.Cap {
		t.Errorf("%d adds succeeded and %d found the pool full, want %d and %d", added, full, byok.Cap, 200-byok.Cap)
	}
	keys, err := stores[0].Pool(t.Context(), p)
	if err != nil || len(keys) != byok.Cap {
		t.Fatalf("the pool holds %d keys, %v", len(keys), err)
	}
	for i, writer := range stores {
		id, value := keys[i].ID, fmt.Sprint("replaced by ", i)
		if _, err := writer.Replace(t.Context(), p, id, keystore.Replacement{Sealed: value}); err != nil {
			t.Fatal(err)
		}
		for j, reader := range stores {
			seen, err := reader.Pool(t.Context(), p)
			if at := slices.IndexFunc(seen, func(key keystore.SealedKey) bool { return key.ID == id }); err != nil || at < 0 || seen[at].Sealed != value {
				t.Errorf("instance %d does not see what instance %d replaced: %v", j, i, err)
			}
		}
		if err := writer.Delete(t.Context(), p, id); err != nil {
			t.Fatal(err)
		}
		for j, reader := range stores {
			if seen, err := reader.Pool(t.Context(), p); err != nil || len(seen) != byok.Cap-i-1 {
				t.Errorf("instance %d sees %d keys after instance %d deleted one: %v", j, len(seen), i, err)
			}
		}
	}
}
