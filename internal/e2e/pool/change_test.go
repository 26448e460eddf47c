package pool

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Every change to a pool, as its plan shows it and as it ends up stored.
func TestChange(t *testing.T) {
	t.Parallel()
	before := keys("a", "b", "c")
	for title, tc := range map[string]struct {
		before, after string
		// names are those stored afterwards, in rotation order; same are the
		// names of which the ID stays; served are the secrets.
		names, same []string
		served      []string
		plan        []string
		notInPlan   []string
	}{
		"secret without a version": {
			after: keys("a", "c") + "\n" + keyWith("b", secret("b2")),
			names: []string{"a", "b", "c"}, same: []string{"a", "b", "c"}, served: []string{"a", "b2", "c"},
			plan:      []string{`~ "b" = {`, "# (2 unchanged elements hidden)", "masked_key", "0 to add, 1 to change, 0 to destroy"},
			notInPlan: []string{`"a" = {`, `"c" = {`},
		},
		"secret with a version": {
			before: keys("a") + "\n" + key("b", "api_key_wo_version = 1"),
			after:  keys("a") + "\n" + keyWith("b", secret("b2"), "api_key_wo_version = 2"),
			names:  []string{"a", "b"}, same: []string{"a", "b"}, served: []string{"a", "b2"},
			plan: []string{`~ "b" = {`, "~ api_key_wo_version = 1 -> 2"},
		},
		"name": {
			after: keys("a", "b") + "\n" + key("c", `name = "other"`),
			names: []string{"a", "b", "other"}, same: []string{"a", "b"}, served: []string{"a", "b", "c"},
			plan: []string{`~ "c" = {`, `~ name = "c" -> "other"`},
		},
		"name dropped": {
			before: keys("a") + "\n" + key("b", `name = "other"`), after: keys("a", "b"),
			names: []string{"a", "b"}, same: []string{"a"}, served: []string{"a", "b"},
			plan: []string{`~ name = "other" -> "b"`},
		},
		"no name": {
			after: keys("a", "b") + "\n" + key("c", `name = ""`),
			names: []string{"a", "b", ""}, same: []string{"a", "b"}, served: []string{"a", "b", "c"},
		},
		"map key, same secret": {
			after: keys("a", "b") + "\n" + keyWith("z", secret("c")),
			names: []string{"a", "b", "z"}, same: []string{"a", "b"}, served: []string{"a", "b", "c"},
			plan: []string{`+ "z" = {`, `- "c" = {`},
		},
		"map key, other secret": {
			after: keys("a", "b", "z"),
			names: []string{"a", "b", "z"}, same: []string{"a", "b"}, served: []string{"a", "b", "z"},
		},
		"removal and addition": {
			after: keys("b", "c", "d", "e"),
			names: []string{"b", "c", "d", "e"}, same: []string{"b", "c"}, served: []string{"b", "c", "d", "e"},
			plan: []string{`+ "d" = {`, `+ "e" = {`, `- "a" = {`},
		},
		"two map keys exchanged": {
			after: keyWith("a", secret("b")) + "\n" + keyWith("b", secret("a")) + "\n" + keys("c"),
			names: []string{"a", "b", "c"}, same: []string{"a", "b", "c"}, served: []string{"b", "a", "c"},
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tc.before == "" {
				tc.before = before
			}
			w.configure(t, pool(openai, tc.before))
			w.Apply(t)
			ids := w.storedIDs(t, openai)
			w.configure(t, pool(openai, tc.after))
			planned := w.Plan(t, "-out=saved.tfplan")
			wantSays(t, planned, tc.plan...)
			wantSaysNot(t, planned, tc.notInPlan...)
			// Saved plans apply, too.
			w.Must(t, "apply", "-no-color", "saved.tfplan")
			w.wantEmptyPlan(t)
			if got := w.storedNames(t, openai); !slices.Equal(got, tc.names) {
				t.Errorf("stored are %v, want %v", got, tc.names)
			}
			now := w.storedIDs(t, openai)
			for _, name := range tc.same {
				if now[name] != ids[name] {
					t.Errorf("%s has another ID", name)
				}
			}
			w.wantServed(t, openai, secrets(tc.served...)...)
			w.wantStateIsStored(t, openai, openai)
		})
	}
}

// A changed map key with the same secret keeps its ID, and the plan says so.
func TestMapKeyChangeKeepsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, keys("a", "b")))
	w.Apply(t)
	id := w.storedIDs(t, openai)["b"]
	w.configure(t, pool(openai, keys("a"), keyWith("z", secret("b"))))
	w.Plan(t, "-out=saved.tfplan")
	_, after := w.planned(t, "saved.tfplan", openai)
	if after.Keys["z"].ID != id {
		t.Errorf("the plan gives z the ID %q, want %s", after.Keys["z"].ID, id)
	}
	w.settled(t)
	if got := w.storedIDs(t, openai)["z"]; got != id {
		t.Errorf("z is stored as %s, want %s", got, id)
	}
}

// planned is what a saved plan finds and leaves of a pool; unknown values are empty.
func (w *world) planned(t *testing.T, file, label string) (before, after poolState) {
	t.Helper()
	var plan struct {
		ResourceChanges []struct {
			Address string `json:"address"`
			Change  struct{ Before, After poolState }
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal([]byte(w.Must(t, "show", "-json", file).Output), &plan); err != nil {
		t.Fatal(err)
	}
	for _, change := range plan.ResourceChanges {
		if change.Address == "byok_pool."+label {
			return change.Change.Before, change.Change.After
		}
	}
	t.Fatalf("the plan does not include byok_pool.%s", label)
	return before, after
}

const upstream = `
resource "terraform_data" "upstream" {
  input = "%s"
}
`

// What keys depends on is known only after apply.
func TestUnknownKeys(t *testing.T) {
	t.Parallel()
	leaf := `"a" = { api_key_wo = "sk-test-0123456789-a", name = terraform_data.upstream.output }`
	whole := "resource \"byok_pool\" \"openai\" {\n  provider_id = \"openai\"\n  %s\n  keys = { for n in toset([terraform_data.upstream.output, \"b\"]) : n => { api_key_wo = \"sk-test-0123456789-${n}\" } }\n}\n"

	t.Run("leaf", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.configure(t, fmt.Sprintf(upstream, "one"), pool(openai, leaf, key("b")))
		w.settled(t)
		w.configure(t, fmt.Sprintf(upstream, "two"), pool(openai, leaf, key("b")))
		w.settled(t)
		if got := w.storedNames(t, openai); !slices.Equal(got, []string{"two", "b"}) {
			t.Errorf("stored are %v", got)
		}
	})
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.configure(t, fmt.Sprintf(upstream, "a"), fmt.Sprintf(whole, ""))
		w.settled(t)
		other := w.add(t, openai, "other")
		w.configure(t, fmt.Sprintf(upstream, "c"), fmt.Sprintf(whole, ""))
		wantSays(t, w.Plan(t), "keys is not known at plan", "The apply keeps the keys that the final map declares and removes the others.")
		w.settled(t)
		if got := w.storedNames(t, openai); !slices.Equal(got, []string{"b", "other", "c"}) {
			t.Errorf("stored are %v", got)
		}
		// An exclusive pool removes no key that its plan cannot show.
		w.configure(t, fmt.Sprintf(upstream, "d"), fmt.Sprintf(whole, exclusive))
		w.wantError(t, []string{"apply", "-auto-approve"}, "keys is not known at plan", other)
		if got := w.storedNames(t, openai); !slices.Equal(got, []string{"b", "other", "c"}) {
			t.Errorf("stored are %v", got)
		}
	})
	t.Run("element", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		element := `"a" = terraform_data.upstream.output == "x" ? { api_key_wo = "sk-test-0123456789-a", name = "x" } : { api_key_wo = "sk-test-0123456789-a", name = "y" }`
		w.configure(t, fmt.Sprintf(upstream, "x"), pool(openai, element, key("b")))
		w.settled(t)
		w.configure(t, fmt.Sprintf(upstream, "y"), pool(openai, element, key("b")))
		w.settled(t)
		if got := w.storedNames(t, openai); !slices.Equal(got, []string{"y", "b"}) {
			t.Errorf("stored are %v", got)
		}
	})
}

func TestTargetRefreshAndReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configure(t, pool(openai, keys("a", "b")), pool("anthropic", keys("c")))
	w.Apply(t, "-target=byok_pool.openai")
	if got := len(w.stored(t, "anthropic")); got != 0 {
		t.Errorf("anthropic has %d keys, which was no target", got)
	}
	w.settled(t)
	w.configure(t, pool(openai, keys("a", "x")), pool("anthropic", keys("c")))
	w.settled(t, "-refresh=false")

	ids := w.storedIDs(t, openai)
	wantSays(t, w.Apply(t, "-replace=byok_pool.openai"), "1 added, 0 changed, 1 destroyed")
	w.wantEmptyPlan(t)
	for name, id := range w.storedIDs(t, openai) {
		if ids[name] == id {
			t.Errorf("%s was not replaced", name)
		}
	}
	w.Must(t, "taint", "byok_pool.openai")
	w.settled(t)
	w.wantStateIsStored(t, openai, openai)

	// A new provider ID replaces the pool.
	w.configure(t, poolWith(openai, "google", keys("a", "x")), pool("anthropic", keys("c")))
	w.settled(t)
	if got := w.storedNames(t, openai); len(got) != 0 {
		t.Errorf("openai still holds %v", got)
	}
	if got := w.storedNames(t, "google"); !slices.Equal(got, []string{"a", "x"}) {
		t.Errorf("google holds %v", got)
	}
}

// A full pool is replaced and tainted like any other. Only with
// create_before_destroy it has no room, which shows at apply, and leaves what is
// stored alone.
func TestReplaceAtTheCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full := keys(span("a", 1, 10)...)
	w.configure(t, pool(openai, full))
	w.Apply(t)
	w.settled(t, "-replace=byok_pool.openai")
	w.Must(t, "taint", "byok_pool.openai")
	w.settled(t)

	ids := w.storedIDs(t, openai)
	w.configure(t, pool(openai, full, "lifecycle {\n    create_before_destroy = true\n  }\n  timeouts {\n    create = \"2s\"\n  }"))
	w.settled(t)
	if planned := w.Plan(t, "-replace=byok_pool.openai"); planned.Exit != 2 {
		t.Errorf("the plan says more than it can know:\n%s", planned.Output)
	}
	refused := []string{"create_before_destroy", `Pool "openai" is full`}
	if w.CLI().IsOpenTofu() {
		// Nothing tells its apply from a plan before the first key is added.
		refused = []string{`Pool "openai" would hold 20 keys, its cap is 10`, "If this is an apply, and its plan passed"}
	}
	w.wantError(t, []string{"apply", "-auto-approve", "-replace=byok_pool.openai"}, refused...)
	for name, id := range w.storedIDs(t, openai) {
		if ids[name] != id {
			t.Errorf("%s has changed", name)
		}
	}
	if w.CLI().IsOpenTofu() {
		// An error in the planning call of its apply leaves the old pool deposed, and
		// its delete waits for the create: the next apply is refused as well.
		// The plan counts the delete if OpenTofu plans it within the quarter of a second
		// that the create waits, and reports the full pool otherwise.
		if planned := w.Plan(t); planned.Exit == 2 {
			wantSays(t, planned, "(deposed object", "1 to add, 0 to change, 1 to destroy")
		} else {
			wantSays(t, planned, refused[0])
		}
		w.wantError(t, []string{"apply", "-auto-approve"}, refused[0])
		// The way out that the guide shows.
		w.Must(t, "state", "rm", "byok_pool.openai")
		w.configure(t, pool(openai, full), importing("byok_pool.openai", openai))
		wantSays(t, w.Plan(t), "1 to import, 0 to add", "0 to destroy")
		w.settled(t)
		if now := w.storedIDs(t, openai); !maps.Equal(ids, now) {
			t.Errorf("stored are %v, want %v", now, ids)
		}
		return
	}
	w.wantEmptyPlan(t)
}

// Bad configurations, each with what the plan says and where.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct{ config, want string }{
		"no key":            {pool(openai), "keys has no element"},
		"no secret":         {pool(openai, `"a" = {}`), `The key "a" is to be created, and a new key needs its secret: set api_key_wo.`},
		"empty secret":      {pool(openai, `"a" = { api_key_wo = "" }`), `The key "a": The API key is empty.`},
		"blank map key":     {pool(openai, `" " = { api_key_wo = "x" }`), "A map key of keys cannot be blank."},
		"long map key":      {pool(openai, fmt.Sprintf("%q = { api_key_wo = \"x\" }", strings.Repeat("x", 121))), "The name has 121 characters, at most 120 are allowed."},
		"null element":      {pool(openai, `"a" = null`), `The element "a" is null.`},
		"version":           {pool(openai, `"a" = { api_key_wo = "x", api_key_wo_version = 0 }`), "must be at least 1"},
		"timeout":           {pool(openai, key("a"), "timeouts {\n create = \"soon\"\n }"), `"soon" is not a duration above zero`},
		"exclusive unknown": {fmt.Sprintf(upstream, "x") + pool(openai, key("a"), `exclusive = terraform_data.upstream.output == "x"`), "exclusive is not known at plan"},
		"for over ephemeral": {`variable "secrets" {
  type      = map(string)
  ephemeral = true
  default   = { a = "x" }
}
resource "byok_pool" "openai" {
  provider_id = "openai"
  keys        = { for n, s in var.secrets : n => { api_key_wo = s } }
}
`, "phemeral"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, tc.config)
			w.wantError(t, []string{"plan"}, tc.want)
		})
	}
}

// What ignore_changes ignores, an apply leaves as it is: Terraform hides it from
// the plan, but not from the configuration that an apply gets.
func TestIgnoreChanges(t *testing.T) {
	t.Parallel()
	ignoring := func(what string) string { return "lifecycle {\n    ignore_changes = [" + what + "]\n  }" }
	const warn = `on_remote_change = "warn"`
	for title, tt := range map[string]struct {
		parts []string // of the second configuration
		want  []string // names and secrets stored, in order
	}{
		"an element that goes":        {[]string{key("a"), warn, ignoring("keys")}, []string{"a", "b"}},
		"a new element":               {[]string{keys("a", "b", "c"), warn, ignoring("keys")}, []string{"a", "b"}},
		"a secret":                    {[]string{keyWith("a", "sk-test-ignored-0001"), key("b"), warn, ignoring("keys")}, []string{"a", "b"}},
		"a name":                      {[]string{key("a", `name = "other"`), key("b"), warn, ignoring("keys")}, []string{"a", "b"}},
		"a version":                   {[]string{key("a", "api_key_wo_version = 2"), key("b"), warn, ignoring("keys")}, []string{"a", "b"}},
		"one element of two":          {[]string{keyWith("a", "sk-test-ignored-0001"), keyWith("b", secret("new")), ignoring(`keys["a"]`)}, []string{"a", "new"}},
		"the secret of one":           {[]string{keyWith("a", "sk-test-ignored-0001"), keyWith("b", secret("new")), ignoring(`keys["a"].api_key_wo`)}, []string{"a", "new"}},
		"the name of one":             {[]string{key("a", `name = "other"`), keyWith("b", secret("new")), ignoring(`keys["a"].name`)}, []string{"a", "new"}},
		"exclusive":                   {[]string{keyWith("a", secret("new")), key("b"), exclusive, ignoring("exclusive")}, []string{"new", "b", "stranger"}},
		"keys of an exclusive pool":   {[]string{key("a"), exclusive, ignoring("keys")}, []string{"a", "b"}},
		"a map key that is exchanged": {[]string{keyWith("c", secret("a"), `name = "a"`), key("b"), warn, ignoring("keys")}, []string{"a", "b"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.configure(t, pool(openai, keys("a", "b")))
			w.Apply(t)
			if strings.Contains(title, "exclusive") {
				w.add(t, openai, "stranger")
			}
			before := w.storedIDs(t, openai)
			w.configure(t, pool(openai, tt.parts...))
			w.settled(t)
			w.wantServed(t, openai, secrets(tt.want...)...)
			for _, name := range []string{"a", "b"} {
				if got := w.storedIDs(t, openai)[name]; got != before[name] {
					t.Errorf("key %s is now %s, was %s", name, got, before[name])
				}
			}
		})
	}
}

// An update replaces first, then adds while there is room, then makes room one by
// one, and removes last: the pool serves at each moment.
func TestOrderOfAnUpdate(t *testing.T) {
	t.Parallel()
	var swap []string
	for i := 1; i <= 10; i++ {
		swap = append(swap, fmt.Sprintf("- a%02d", i), fmt.Sprintf("+ b%02d", i))
	}
	for title, tt := range map[string]struct {
		first, second []string
		want          []string
	}{
		"one key":                {[]string{key("a")}, []string{key("b")}, []string{"+ b", "- a"}},
		"replace, add, remove":   {[]string{keys("a", "b")}, []string{keyWith("b", secret("new")), keys("c", "d")}, []string{"~ new", "+ c", "+ d", "- a"}},
		"a full pool":            {[]string{keys(span("a", 1, 10)...)}, []string{keys(span("b", 1, 10)...)}, swap},
		"a pool with one room":   {[]string{keys("a", "b", "c", "d", "e", "f", "g", "h", "i")}, []string{keys("c", "d", "e", "f", "g", "h", "i", "x", "y")}, []string{"+ x", "- a", "+ y", "- b"}},
		"a full pool, in part":   {[]string{keys(span("a", 1, 10)...)}, []string{keys(append(span("a", 2, 10), "b")...)}, []string{"- a01", "+ b"}},
		"a rename in a full one": {[]string{keys(span("a", 1, 10)...)}, []string{key("a01", `name = "other"`), keys(append(span("a", 3, 10), "b")...)}, []string{"~ a01", "- a02", "+ b"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var faults refusals
			w := newWorld(t, faults.option())
			w.configure(t, pool(openai, tt.first...))
			w.Apply(t)
			names := map[string]string{}
			for name, id := range w.storedIDs(t, openai) {
				names[id] = name
			}
			var mu sync.Mutex
			var got []string
			faults.set(func(method string, body byok.SaveRequest) bool {
				mu.Lock()
				defer mu.Unlock()
				switch secret := strings.TrimPrefix(body.APIKey, secret("")); {
				case method == http.MethodDelete:
					got = append(got, "- "+names[body.KeyID])
				case body.KeyID != "":
					got = append(got, "~ "+secret)
				default:
					got = append(got, "+ "+secret)
				}
				return false
			})
			w.configure(t, pool(openai, tt.second...))
			w.Apply(t)
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, tt.want) {
				t.Errorf("the update sent %q, want %q", got, tt.want)
			}
		})
	}
}
