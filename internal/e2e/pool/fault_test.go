package pool

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
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
	w.wantError(t, []string{"apply", "-auto-approve"}, "Cannot create key", `Failed to create key "c"`, "The pool was not created", "was removed again: 2 keys. Apply again once the cause is fixed.")
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

// Where nobody can tell whether a key was stored, the errors say to look before the
// next apply.
func TestCreateOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	w := newWorld(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/byok-keys"):
				data, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(data))
				if bytes.Contains(data, []byte(secret("b"))) {
					next.ServeHTTP(httptest.NewRecorder(), r)
					lost.Store(true)
					panic(http.ErrAbortHandler)
				}
			case r.Method == http.MethodGet && lost.Load():
				rw.WriteHeader(http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}))
	w.configure(t, "provider \"byok\" {\n  max_retries = 0\n}", pool(openai, keys("a", "b", "c")))
	refused := w.wantError(t, []string{"apply", "-auto-approve"}, "it is not known whether it was stored", "The pool was not created",
		`was removed again: 1 key. Whether the key "b" was stored is not known. Look at the pool before you apply again`)
	wantSaysNot(t, refused, "Apply again once")
	lost.Store(false)
	if got := w.storedNames(t, openai); !slices.Equal(got, []string{"b"}) {
		t.Errorf("stored are %v", got)
	}
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

// An update that fails while it makes room in a full pool, or while it removes the
// keys of others, leaves a state that says exactly what is stored, too.
func TestUpdateThatFailsAtTheCap(t *testing.T) {
	t.Parallel()
	for title, tt := range map[string]struct {
		first, second string
		strangers     []string
		refused       string // whose removal is refused
	}{
		"a swap":       {pool(openai, keys(span("a", 1, 10)...)), pool(openai, keys(span("b", 1, 10)...)), nil, "a03"},
		"others":       {pool(openai, exclusive, keys("a")), pool(openai, exclusive, keys("a", "b")), []string{"x", "y"}, "y"},
		"a full other": {pool(openai, exclusive, keys(span("a", 1, 8)...)), pool(openai, exclusive, keys(span("a", 1, 10)...)), []string{"x", "y"}, "y"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var faults refusals
			w := newWorld(t, faults.option())
			w.configure(t, tt.first)
			w.Apply(t)
			for _, name := range tt.strangers {
				w.add(t, openai, name)
			}
			id := w.storedIDs(t, openai)[tt.refused]
			faults.set(func(method string, body byok.SaveRequest) bool {
				return method == http.MethodDelete && body.KeyID == id
			})
			w.configure(t, tt.second)
			w.wantError(t, []string{"apply", "-auto-approve"}, "the API refused the request")
			w.wantStateIsStored(t, openai, openai)
			faults.set(nil)
			w.settled(t)
		})
	}
}

// An interrupt while a pool is created removes what was added so far.
func TestInterruptedCreate(t *testing.T) {
	t.Parallel()
	var started sync.Mutex
	var process *os.Process
	w := newWorld(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			data, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			if r.Method == http.MethodPost && bytes.Contains(data, []byte(secret("c"))) {
				started.Lock()
				defer started.Unlock()
				if err := process.Signal(os.Interrupt); err != nil {
					t.Error(err)
				}
				<-r.Context().Done() // the provider has given up the request
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(data))
			next.ServeHTTP(rw, r)
		})
	}))
	w.configure(t, pool(openai, keys("a", "b", "c", "d")))
	cmd := w.Command(t.Context(), "apply", "-auto-approve", "-no-color")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started.Lock()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	process = cmd.Process
	started.Unlock()
	_ = cmd.Wait()
	if left := w.stored(t, openai); len(left) != 0 || len(w.State(t)) != 0 {
		t.Errorf("stored are %v, in state are %v:\n%s", left, w.State(t), out.String())
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
