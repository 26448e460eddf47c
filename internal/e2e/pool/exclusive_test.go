package pool

import (
	"slices"
	"testing"
)

// The create of an exclusive pool leaves keys of others alone and names them.
// The next plan shows each of them as removed, for people and for policies, and
// its apply removes exactly those.
func TestExclusive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x, y := w.add(t, openai, "x"), w.add(t, openai, "y")
	elsewhere := w.add(t, "google", "elsewhere")
	w.configure(t, pool(openai, exclusive, keys("a", "b")))
	wantSays(t, w.Plan(t), "Exclusive pool holds other keys", x, y, `name "x"`)
	wantSays(t, w.Apply(t), "Exclusive pool holds other keys", x, y)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"x", "y", "a", "b"}) {
		t.Fatalf("after the create, stored are %v", got)
	}
	w.wantStateIsStored(t, openai, openai)

	planned := w.Plan(t, "-out=saved.tfplan")
	wantSays(t, planned, "~ unmanaged = {", `- "`+x+`" = {`, `- "`+y+`" = {`, `name = "x" -> null`, "0 to add, 1 to change, 0 to destroy")
	wantSaysNot(t, planned, elsewhere)
	before, after := w.planned(t, "saved.tfplan", openai)
	if len(before.Unmanaged) != 2 || *before.Unmanaged[x].Name != "x" || *before.Unmanaged[y].Name != "y" || after.Unmanaged == nil || len(after.Unmanaged) != 0 {
		t.Errorf("for policies, the plan finds %v and keeps %v", before.Unmanaged, after.Unmanaged)
	}

	// One arrives after the plan, one changes after it: both stay.
	z := w.add(t, openai, "z")
	w.server.Replace(t, w.server.WorkspaceID, openai, y, secret("y"), nil)
	applied := w.Must(t, "apply", "-no-color", "saved.tfplan")
	wantSays(t, applied, "Keys added since the plan", z, "Keys changed since the plan", y)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"y", "a", "b", "z"}) {
		t.Errorf("after the update, stored are %v", got)
	}
	planned = w.Plan(t)
	wantSays(t, planned, `- "`+y+`" = {`, `- "`+z+`" = {`)
	w.settled(t)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("in the end, stored are %v", got)
	}
	if got := w.storedNames(t, "google"); !slices.Equal(got, []string{"elsewhere"}) {
		t.Errorf("google holds %v", got)
	}
}

// Switched on, exclusive removes in the same update; switched off, it leaves
// the next ones alone.
func TestExclusiveOnAndOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, keys("a")))
	w.Apply(t)
	x := w.add(t, openai, "x")
	w.wantEmptyPlan(t)
	w.configure(t, pool(openai, exclusive, keys("a")))
	wantSays(t, w.Plan(t), "~ exclusive", `- "`+x+`" = {`)
	w.settled(t)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"a"}) {
		t.Errorf("stored are %v", got)
	}
	w.add(t, openai, "y")
	w.configure(t, pool(openai, keys("a")))
	w.settled(t)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"a", "y"}) {
		t.Errorf("stored are %v", got)
	}
	// It counts towards the cap all the same.
	w.configure(t, pool(openai, keys(span("b", 1, 10)...)))
	w.wantError(t, []string{"plan"}, would(11))
}

// A full exclusive pool makes room for its new keys one by one.
func TestExclusiveAtTheCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, exclusive, keys("a")))
	w.Apply(t)
	for _, name := range span("x", 1, 9) {
		w.add(t, openai, name)
	}
	stop := w.watch(t, openai)
	w.configure(t, pool(openai, exclusive, keys(span("b", 1, 10)...)))
	w.settled(t)
	stop()
	if got := w.storedNames(t, openai); !slices.Equal(got, span("b", 1, 10)) {
		t.Errorf("stored are %v", got)
	}
}
