package pool

import (
	"slices"
	"testing"
)

// What another user does to a key shows in the plan of that key alone.
func TestDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, keys("a", "b", "c")))
	w.Apply(t)
	ids := w.storedIDs(t, openai)
	id := w.server.WorkspaceID

	w.server.Replace(t, id, openai, ids["a"], "sk-other-9876543210-other", nil)
	planned := w.Plan(t)
	wantSays(t, planned, "Key changed outside of Terraform", ids["a"], `~ "a" = {`)
	wantSaysNot(t, planned, `~ "b" = {`)
	w.settled(t)
	w.wantServed(t, openai, secrets("a", "b", "c")...)

	renamed := "renamed"
	w.server.Replace(t, id, openai, ids["b"], secret("b"), &renamed)
	wantSays(t, w.Plan(t), `~ "b" = {`, `~ name = "renamed" -> "b"`)
	w.settled(t)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("stored are %v", got)
	}

	w.server.Delete(t, id, openai, ids["a"])
	wantSays(t, w.Plan(t), "Key deleted outside of Terraform", `+ "a" = {`)
	w.settled(t)
	w.wantServed(t, openai, secrets("b", "c", "a")...)

	// Keys that are added elsewhere are none of its business.
	w.add(t, openai, "other")
	w.wantEmptyPlan(t)
	w.Apply(t)
	w.wantStateIsStored(t, openai, openai)

	// All gone: the resource stays, and is filled again.
	for _, stored := range w.stored(t, openai) {
		w.server.Delete(t, id, openai, stored.ID)
	}
	wantSays(t, w.Plan(t), "0 to add, 1 to change")
	w.settled(t)
	w.wantServed(t, openai, secrets("a", "b", "c")...)
}

// With on_remote_change = "warn" the plan only warns.
func TestDriftWarn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, `on_remote_change = "warn"`, keys("a", "b")))
	w.Apply(t)
	renamed := "renamed"
	w.server.Replace(t, w.server.WorkspaceID, openai, w.storedIDs(t, openai)["a"], "sk-other-9876543210-other", &renamed)
	planned := w.Plan(t)
	wantSays(t, planned, "Key changed outside of Terraform", `Its name is now "renamed".`)
	if planned.Exit != 0 {
		t.Errorf("the plan changes something:\n%s", planned.Output)
	}
	w.configure(t, pool(openai, keys("a", "b")))
	w.settled(t)
	w.wantServed(t, openai, secrets("a", "b")...)
}
