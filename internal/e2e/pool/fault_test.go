package pool

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// refusals refuse requests for good, as a server does that knows better.
type refusals struct{ current atomic.Pointer[refusal] }

// refusal reports whether to refuse a request: the body of an add or a replace,
// or nothing but the ID for a delete.
type refusal func(method string, body byok.SaveRequest) bool

func (r *refusals) set(refuse refusal) { r.current.Store(&refuse) }

func (r *refusals) option() acctest.Option {
	return acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			if refuse := r.current.Load(); refuse != nil && *refuse != nil && request.Method != http.MethodGet {
				data, err := io.ReadAll(request.Body)
				if err != nil {
					return
				}
				request.Body = io.NopCloser(strings.NewReader(string(data)))
				var body byok.SaveRequest
				_ = json.Unmarshal(data, &body)
				if (*refuse)(request.Method, body) {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, `{"error":"refused by the test"}`)
					return
				}
			}
			next.ServeHTTP(w, request)
		})
	})
}

// refuseAdd refuses the add of one name.
func refuseAdd(name string) refusal {
	return func(method string, body byok.SaveRequest) bool {
		return method == http.MethodPost && body.KeyID == "" && body.Name != nil && *body.Name == name
	}
}

// A create that fails at one of its keys leaves nothing behind: no key, no
// state, nothing tainted.
func TestCreateIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	var faults refusals
	w := newWorld(t, faults.option())
	other := w.add(t, openai, "other")
	w.configure(t, pool(openai, keys("a", "b", "c")))
	faults.set(refuseAdd("c"))
	w.wantError(t, []string{"apply", "-auto-approve"}, "Cannot create key", `Failed to create key "c"`, "The pool was not created", "The 2 keys that this apply had added")
	if left := w.stored(t, openai); len(left) != 1 || left[0].ID != other {
		t.Errorf("stored are %v, want the key of another user", left)
	}
	if state := w.State(t); len(state) != 0 {
		t.Errorf("in state is %v", state)
	}
	faults.set(nil)
	w.settled(t)
	w.wantStateIsStored(t, openai, openai)
}

// When the keys cannot be removed again, they are in state, and the error says
// how to keep them.
func TestCreateThatCannotBeRolledBack(t *testing.T) {
	t.Parallel()
	var faults refusals
	w := newWorld(t, faults.option())
	w.configure(t, pool(openai, keys("a", "b", "c")))
	faults.set(func(method string, body byok.SaveRequest) bool {
		return refuseAdd("c")(method, body) || method == http.MethodDelete
	})
	w.wantError(t, []string{"apply", "-auto-approve"}, "The pool was created in part", "terraform untaint")
	ids := w.storedIDs(t, openai)
	w.wantStateIsStored(t, openai, openai)
	faults.set(nil)
	w.Must(t, "untaint", "-no-color", "byok_pool.openai")
	w.settled(t)
	now := w.storedIDs(t, openai)
	if len(now) != 3 || now["a"] != ids["a"] || now["b"] != ids["b"] {
		t.Errorf("stored were %v and are %v", ids, now)
	}
}

// An update that fails in the middle leaves a state that shows exactly what is
// stored, wherever it fails, and the next apply does the rest.
func TestUpdateThatFails(t *testing.T) {
	t.Parallel()
	for title, refuse := range map[string]refusal{
		"first replace": func(method string, body byok.SaveRequest) bool {
			return body.KeyID != "" && body.APIKey == secret("b2")
		},
		"second replace": func(method string, body byok.SaveRequest) bool {
			return body.KeyID != "" && body.APIKey == secret("c2")
		},
		"first add":  refuseAdd("x"),
		"second add": refuseAdd("y"),
		"delete":     func(method string, _ byok.SaveRequest) bool { return method == http.MethodDelete },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var faults refusals
			w := newWorld(t, faults.option())
			w.configure(t, pool(openai, keys("a", "b", "c")))
			w.Apply(t)
			w.configure(t, pool(openai, keyWith("b", secret("b2")), keyWith("c", secret("c2")), keys("x", "y")))
			faults.set(refuse)
			w.wantError(t, []string{"apply", "-auto-approve"}, "the API refused the request")
			w.wantStateIsStored(t, openai, openai)
			faults.set(nil)
			w.settled(t)
			if got := w.storedNames(t, openai); !slices.Equal(got, []string{"b", "c", "x", "y"}) {
				t.Errorf("stored are %v", got)
			}
			w.wantServed(t, openai, secrets("b2", "c2", "x", "y")...)
		})
	}
}

// A destroy that fails in the middle keeps the keys that are left in state.
func TestDestroyThatFails(t *testing.T) {
	t.Parallel()
	var faults refusals
	w := newWorld(t, faults.option())
	w.configure(t, pool(openai, keys("a", "b", "c")))
	w.Apply(t)
	last := w.storedIDs(t, openai)["c"]
	faults.set(func(method string, body byok.SaveRequest) bool {
		return method == http.MethodDelete && body.KeyID == last
	})
	w.wantError(t, []string{"destroy", "-auto-approve"}, "Cannot delete key")
	w.wantStateIsStored(t, openai, openai)
	faults.set(nil)
	w.Destroy(t)
	if left := w.stored(t, openai); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}
