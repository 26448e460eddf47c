package rotation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
)

func TestActivity(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pool := keystore.Pool{Owner: keystore.Owner{Scope: keystore.Workspace, ID: "w"}, ProviderID: "openai"}
	a := rotation.NewActivity(begin)
	a.Served(pool, "one", begin.Add(time.Second))
	a.Served(pool, "one", begin.Add(2*time.Second))
	a.Served(pool, "two", begin.Add(3*time.Second))
	got := a.Pool(pool)
	if got["one"] != (rotation.Uses{Count: 2, Last: begin.Add(2 * time.Second)}) || got["two"].Count != 1 || len(got) != 2 {
		t.Errorf("counted %+v", got)
	}
	other := pool
	other.ProviderID = "exa"
	if got := a.Pool(other); len(got) != 0 {
		t.Errorf("another pool counted %+v", got)
	}

	// What keys come and go with is bounded; the busy ones stay counted.
	for i := range 1000 {
		at := begin.Add(time.Minute + time.Duration(i)*time.Second)
		a.Served(pool, "busy", at)
		a.Served(pool, fmt.Sprintf("gone-%d", i), at)
	}
	if got := a.Pool(pool); len(got) > 32 || got["busy"].Count != 1000 {
		t.Errorf("%d keys are counted, the busy one %d times", len(got), got["busy"].Count)
	}
}

func TestActivityWatch(t *testing.T) {
	t.Parallel()
	owner := keystore.Owner{Scope: keystore.Workspace, ID: "w"}
	a := rotation.NewActivity(time.Now())
	changed, stop := a.Watch(owner)
	told := func() bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	for name, happen := range map[string]func(){
		"served":  func() { a.Served(keystore.Pool{Owner: owner, ProviderID: "openai"}, "one", time.Now()) },
		"changed": func() { a.Changed(owner) },
		"often": func() {
			for range 100 {
				a.Changed(owner)
			}
		},
	} {
		if happen(); !told() {
			t.Errorf("%s: a watcher is not told", name)
		}
		if told() {
			t.Errorf("%s: a watcher is told twice", name)
		}
	}
	a.Changed(keystore.Owner{Scope: keystore.Organization, ID: "w"})
	a.Changed(keystore.Owner{Scope: keystore.Workspace, ID: "x"})
	if told() {
		t.Error("a watcher is told of another owner")
	}
	second, stopSecond := a.Watch(owner)
	defer stopSecond()
	stop()
	if a.Changed(owner); told() {
		t.Error("a watcher is told after it stopped")
	}
	select {
	case <-second:
	default:
		t.Error("a watcher is not told after another one stopped")
	}
}

// Upcoming says what Next will do, whatever does not open, and moves nothing.
func TestUpcoming(t *testing.T) {
	t.Parallel()
	pool := keystore.Pool{ProviderID: "openai"}
	for _, broken := range [][]int{nil, {0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}} {
		r := rotation.New()
		opens := func(i int) bool {
			for _, b := range broken {
				if b == i {
					return false
				}
			}
			return true
		}
		for range 12 {
			want := r.Upcoming(pool, 3, opens)
			if again := r.Upcoming(pool, 3, opens); again != want {
				t.Fatalf("broken %v: Upcoming moved from %d to %d", broken, want, again)
			}
			if got := r.Next(pool, 3, opens); got != want {
				t.Fatalf("broken %v: upcoming was %d, served is %d", broken, want, got)
			}
		}
	}
	if got := rotation.New().Upcoming(pool, 0, nil); got != -1 {
		t.Errorf("of an empty pool %d is next", got)
	}
}
