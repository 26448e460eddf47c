package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tfjson "github.com/hashicorp/terraform-json"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// keys is a configuration of byok_key.test[*], n keys with these arguments.
func keys(s *acctest.Server, n int, arguments ...string) string {
	return key(s, append([]string{fmt.Sprintf("count = %d", n), `provider_id = "openai"`, `name = "key ${count.index}"`}, arguments...)...)
}

// expectRequests compares what the server has seen since the last look.
func expectRequests(t *testing.T, s *acctest.Server, command string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, r := range s.Requests() {
		got[r.Method]++
	}
	for method := range map[string]bool{"GET": true, "POST": true, "DELETE": true} {
		if got[method] != want[method] {
			t.Errorf("%s: %d x %s, want %d", command, got[method], method, want[method])
		}
	}
	s.Reset()
}

// Each plan and each apply checks the session with one request, beside what it
// sends for keys.
func TestAccRequestsOfAPlan(t *testing.T) {
	t.Parallel()
	const n = 8
	s := acctest.Start(t)
	tf := newTerraform(t, nil, keys(s, n, `api_key_wo = "`+secretA+`"`))

	tf.plan()
	// The pool begins: the third request asks what the workspace inherits.
	expectRequests(t, s, "plan of creates", map[string]int{"GET": 3})

	tf.apply("plan.tfplan")
	// How many creates share a list depends on which of them wait at a time.
	if gets := s.Count("GET", keysPath); gets > n {
		t.Errorf("apply of creates: %d x GET, want at most one each", gets)
	}
	if posts := s.Count("POST", keysPath); posts != n {
		t.Errorf("apply of creates: %d x POST, want %d", posts, n)
	}
	s.Reset()

	tf.expect(nothing)
	expectRequests(t, s, "plan without changes", map[string]int{"GET": 2})
	tf.plan("-refresh=false")
	expectRequests(t, s, "plan without changes and refresh", map[string]int{"GET": 1})

	tf.config(keys(s, n, `api_key_wo = "`+secretB+`"`))
	tf.plan()
	expectRequests(t, s, "plan of updates", map[string]int{"GET": 2})
	tf.apply("plan.tfplan")
	expectRequests(t, s, "apply of updates", map[string]int{"GET": 1, "POST": n})

	tf.plan("-destroy")
	// Terraform configures the provider twice: to refresh, and to plan. The
	// fourth request asks whether the workspace has an organization.
	expectRequests(t, s, "plan of deletes", map[string]int{"GET": 4})
	tf.apply("plan.tfplan")
	expectRequests(t, s, "apply of deletes", map[string]int{"GET": 1, "DELETE": n})
}

// Every delete names its key: without an ID, the API removes all of them.
func TestAccDeleteNamesItsKey(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	unmanaged := s.Add(t, s.WorkspaceID, "openai", secretB, "not ours")
	tf := newTerraform(t, nil, keys(s, 2, `api_key_wo = "`+secretA+`"`))
	tf.apply()
	s.Reset()
	tf.must("destroy", "-no-color", "-auto-approve")
	for _, r := range s.Requests() {
		if r.Method == http.MethodDelete && !strings.Contains(string(r.Body), `"keyId":"`) {
			t.Errorf("a delete without a key ID: %s", r.Body)
		}
	}
	if left := s.List(t, s.WorkspaceID); len(left) != 1 || left[0].ID != unmanaged {
		t.Errorf("%d keys are left, want the unmanaged one", len(left))
	}
}

// A key that is gone when its delete comes is deleted.
func TestAccDeleteOfAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `api_key_wo = "`+secretA+`"`))
	tf.apply()
	tf.plan("-destroy")
	s.Delete(t, s.WorkspaceID, "openai", tf.id("byok_key.test"))
	tf.apply("plan.tfplan")
}

// An update of a key that is gone says what to do, and the next plan does it.
func TestAccUpdateOfAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `api_key = "`+secretA+`"`))
	tf.apply()
	id := tf.id("byok_key.test")
	tf.config(key(s, `provider_id = "openai"`, `api_key = "`+secretB+`"`))
	tf.plan()
	s.Delete(t, s.WorkspaceID, "openai", id)
	tf.fails([]string{"Cannot update key: the key does not exist", id, "the next plan creates it"}, "apply", "-no-color", "plan.tfplan")
	tf.expect(create)
}

func TestAccEphemeralSecretConvergesWithAVersion(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := func(version int) string {
		return "ephemeral \"changes_secret\" \"new\" {}\n" +
			key(s, `provider_id = "openai"`, `api_key_wo = ephemeral.changes_secret.new.value`, fmt.Sprintf("api_key_wo_version = %d", version))
	}
	tf := newTerraform(t, nil, config(1))
	tf.apply()
	first := s.Resolve(t, s.WorkspaceID, "openai").APIKey
	tf.expect(nothing)

	tf.config(config(2))
	tf.expect(update)
	tf.apply("plan.tfplan") // the value differs from the one at plan
	if second := s.Resolve(t, s.WorkspaceID, "openai").APIKey; second == first {
		t.Error("the new version was not uploaded")
	}
	tf.expect(nothing)
}

// Without a version, a value that differs from run to run is uploaded by each
// apply, but no apply fails because of it, whatever else changes.
func TestAccEphemeralSecretWithoutAVersion(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := func(arguments ...string) string {
		return "ephemeral \"changes_secret\" \"new\" {}\n" +
			key(s, append([]string{`provider_id = "openai"`, `api_key_wo = ephemeral.changes_secret.new.value`}, arguments...)...)
	}
	tf := newTerraform(t, nil, config())
	tf.apply()
	tf.expect(update)
	tf.apply("plan.tfplan")
	tf.config(config(`on_remote_change = "warn"`))
	tf.expect(update)
	tf.apply("plan.tfplan")
}

// An apply gets the configuration without ignore_changes. What is ignored is neither
// uploaded nor taken for uploaded.
func TestAccIgnoredChanges(t *testing.T) {
	t.Parallel()
	const first, second = "sk-first-0123456789", "sk-second-0123456789"
	for _, secret := range []string{"api_key_wo", "api_key"} {
		t.Run(secret, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			config := func(value string, arguments ...string) string {
				return key(s, append([]string{`provider_id = "openai"`, fmt.Sprintf("%s = %q", secret, value)}, arguments...)...)
			}
			served := func(want string) {
				t.Helper()
				if got := s.Resolve(t, s.WorkspaceID, "openai").APIKey; got != want {
					t.Errorf("%q is served, want %q", got, want)
				}
			}
			tf := newTerraform(t, nil, config(first))
			tf.apply()
			tf.config(config(second, `on_remote_change = "warn"`, "lifecycle {\n    ignore_changes = ["+secret+"]\n  }"))
			tf.expect(update)
			tf.apply("plan.tfplan")
			served(first)
			tf.expect(nothing)
			tf.config(config(second, `on_remote_change = "warn"`))
			tf.expect(update)
			tf.apply("plan.tfplan")
			served(second)
			tf.expect(nothing)
		})
	}
}

// -replace and replace_triggered_by show to a provider as a create with the
// private state of the key that goes. At the cap, that makes the difference.
func TestAccReplaceAtTheCap(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, keys(s, 10, `api_key_wo = "`+secretA+`"`))
	tf.apply()
	tf.expect(map[string]string{"byok_key.test[3]": "delete/create"}, "-replace=byok_key.test[3]")
	tf.apply("plan.tfplan")
	tf.expect(nothing)
	// One more does not fit.
	tf.config(keys(s, 11, `api_key_wo = "`+secretA+`"`))
	for _, args := range [][]string{{"plan", "-no-color"}, {"plan", "-no-color", "-refresh=false"}} {
		tf.fails([]string{"its cap is 10"}, args...)
	}
}

func TestAccCap(t *testing.T) {
	t.Parallel()
	const declared = `api_key_wo = "` + secretA + `"`
	over := []string{`Pool "openai" would hold 11 keys, its cap is 10`}
	for title, tc := range map[string]struct {
		stored, declared int
		provider         string // more of the provider block
		fails            []string
		says             string
	}{
		"10 on an empty pool":  {0, 10, "", nil, ""},
		"11 on an empty pool":  {0, 11, "", []string{"its cap is 10"}, ""},
		"1 beside 9":           {9, 1, "", nil, ""},
		"1 beside 10":          {10, 1, "", over, ""},
		"1 beside 10, warning": {10, 1, `cap_check = "warning"`, nil, `Pool "openai" would hold 11 keys, its cap is 10`},
		"1 beside 10, off":     {10, 1, `cap_check = "off"`, nil, ""},
		"3 where 2 fit":        {0, 3, `max_keys_per_provider = 2`, []string{"its cap is 2"}, ""},
		"1 beside 10, cap 20":  {10, 1, `max_keys_per_provider = 20`, nil, ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			for range tc.stored {
				s.Add(t, s.WorkspaceID, "openai", secretB, "unmanaged")
			}
			config := strings.Replace(keys(s, tc.declared, declared), "provider \"byok\" {", "provider \"byok\" {\n  "+tc.provider, 1)
			tf := newTerraform(t, nil, config)
			if tc.fails != nil {
				tf.fails(tc.fails, "plan", "-no-color")
				return
			}
			_, text := tf.plan()
			if tc.says == "" && strings.Contains(text, "its cap is") || !strings.Contains(text, tc.says) {
				t.Errorf("the plan does not say %q, or too much:\n%s", tc.says, text)
			}
		})
	}
}

// A swap at the cap: the creates wait for the deletes of the same apply.
func TestAccSwapAtTheCap(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := func(generation string) string {
		return s.ProviderConfig() + `
resource "byok_key" "test" {
  for_each    = toset([for i in range(10) : "` + generation + ` ${i}"])
  provider_id = "openai"
  name        = each.key
  api_key_wo  = "` + secretA + `"
}`
	}
	tf := newTerraform(t, nil, config("old"))
	tf.apply()
	tf.config(config("new"))
	tf.apply()
	for _, k := range s.List(t, s.WorkspaceID) {
		if !strings.HasPrefix(*k.Name, "new") {
			t.Errorf("%q is left", *k.Name)
		}
	}
}

// At apply, the API has the last word.
func TestAccRefusedAtTheCap(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `api_key_wo = "`+secretA+`"`, "timeouts {\n create = \"1s\"\n }"))
	tf.plan()
	for range 10 {
		s.Add(t, s.WorkspaceID, "openai", secretB, "unmanaged")
	}
	refused := []string{`Pool "openai" is full, its cap is 10`, "unmanaged"}
	if tf.CLI().IsOpenTofu() {
		// Until the first key is created, nothing tells its applies from its plans.
		refused = []string{`Pool "openai" would hold 11 keys, its cap is 10`, "unmanaged", "If this is an apply, and its plan passed"}
	}
	tf.fails(refused, "apply", "-no-color", "plan.tfplan")
}

// A create that is refused at the cap ends with its timeout, also where the
// list that would say what fills the pool hangs.
func TestAccRefusedAtTheCapWhileListsHang(t *testing.T) {
	t.Parallel()
	var refused atomic.Bool
	s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && refused.Load() {
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
			if r.Method == http.MethodPost {
				refused.Store(true)
			}
		})
	}))
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `api_key_wo = "`+secretA+`"`, "timeouts {\n create = \"2s\"\n }"))
	if tf.CLI().IsOpenTofu() {
		t.Skip("OpenTofu: the planning call of the apply reports the full pool before the add is sent")
	}
	tf.plan()
	for range 10 {
		s.Add(t, s.WorkspaceID, "openai", secretB, "unmanaged")
	}
	start := time.Now()
	tf.fails([]string{`Pool "openai" is full, its cap is 10`}, "apply", "-no-color", "plan.tfplan")
	// A list would hang for the request timeout of 30 s.
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the apply took %s", took)
	}
}

// What the response to an add lacks is read afterwards. When that fails, the key is
// in state all the same, untainted, and the next plan completes it.
func TestAccCreateThatCannotBeReadBack(t *testing.T) {
	t.Parallel()
	var added, repaired atomic.Bool
	s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && added.Load() && !repaired.Load() {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
			if r.Method == http.MethodPost {
				added.Store(true)
			}
		})
	}))
	config := strings.Replace(key(s, `provider_id = "openai"`, `api_key_wo = "`+secretA+`"`), "provider \"byok\" {", "provider \"byok\" {\n  max_retries = 0", 1)
	tf := newTerraform(t, nil, config)
	if out := tf.apply(); !strings.Contains(out, "Key created, but its details could not be read") {
		t.Error(out)
	}
	stored := s.List(t, s.WorkspaceID)
	if len(stored) != 1 || tf.id("byok_key.test") != stored[0].ID {
		t.Fatalf("%d keys are stored, and the state has another one", len(stored))
	}
	repaired.Store(true)
	tf.expect(nothing)
	tf.apply()
	if got := tf.attributes("byok_key.test"); got["created_by"] != *stored[0].CreatedBy || got["updated_at"] != stored[0].UpdatedAt {
		t.Errorf("created_by %v, updated_at %v", got["created_by"], got["updated_at"])
	}
	tf.expect(nothing)
}

// What a provider configuration follows from can be unknown at plan. Reads
// then keep the state, nothing is checked, and the apply knows.
func TestAccProviderConfigurationUnknownAtPlan(t *testing.T) {
	t.Parallel()
	for title, attribute := range map[string]string{"endpoint": "endpoint", "session token": "session_token", "workspace": "workspace_id"} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			config := func(generation int, arguments ...string) string {
				value := map[string]string{"endpoint": s.URL, "session_token": s.SessionToken, "workspace_id": s.WorkspaceID}[attribute]
				block := s.ProviderConfig()
				var kept []string
				for line := range strings.SplitSeq(block, "\n") {
					if !strings.HasPrefix(strings.TrimSpace(line), attribute) {
						kept = append(kept, line)
					}
				}
				return strings.Replace(strings.Join(kept, "\n"), "{", "{\n  "+attribute+" = trimsuffix(terraform_data.source.output, \" of "+fmt.Sprint(generation)+"\")", 1) +
					fmt.Sprintf("resource \"terraform_data\" \"source\" {\n  input = \"%s of %d\"\n}\n", value, generation) +
					"resource \"byok_key\" \"test\" {\n  provider_id = \"openai\"\n  " + strings.Join(arguments, "\n  ") + "\n}\n"
			}
			tf := newTerraform(t, nil, config(1, `api_key = "`+secretA+`"`))
			tf.expect(map[string]string{"byok_key.test": "create", "terraform_data.source": "create"})
			tf.apply("plan.tfplan")
			id := tf.id("byok_key.test")

			s.Reset()
			tf.config(config(2, `api_key = "`+secretA+`"`))
			tf.expect(map[string]string{"terraform_data.source": "update"})
			if lists := s.Count("GET", keysPath); attribute != "workspace_id" && lists > 0 {
				t.Errorf("%d lists with an unknown %s", lists, attribute)
			}
			tf.config(config(3, `api_key = "`+secretB+`"`))
			tf.expect(map[string]string{"terraform_data.source": "update", "byok_key.test": "update"})
			tf.apply("plan.tfplan")
			if got := tf.id("byok_key.test"); got != id {
				t.Errorf("ID %s, want %s", got, id)
			}
			tf.expect(nothing)
		})
	}
}

func TestAccPermissions(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	reader, stranger := s.NewUser(t, "read", s.WorkspaceID), s.NewUser(t, "")
	as := func(user acctest.User, arguments ...string) string {
		return strings.Replace(key(s, append([]string{`provider_id = "openai"`}, arguments...)...), s.SessionToken, user.SessionToken, 1)
	}
	declared := `api_key = "` + secretA + `"`
	owner := newTerraform(t, nil, key(s, `provider_id = "openai"`, declared))
	owner.apply()

	owner.config(as(reader, declared))
	owner.expect(nothing) // read permission is enough for a plan
	owner.config(as(reader, `api_key = "`+secretB+`"`))
	owner.fails([]string{"Cannot update key: not an admin of the workspace", "HTTP status 403"}, "apply", "-no-color", "-auto-approve")
	owner.fails([]string{"Cannot delete key: not an admin of the workspace"}, "destroy", "-no-color", "-auto-approve")
	owner.config(as(stranger, declared))
	owner.fails([]string{"Cannot read key: no access to the workspace", "The session is valid", "HTTP status 401", "request ID"}, "plan", "-no-color")

	newcomer := newTerraform(t, nil, as(reader, declared))
	newcomer.fails([]string{"Cannot create key: not an admin of the workspace"}, "apply", "-no-color", "-auto-approve")
	newcomer.config(as(acctest.User{SessionToken: strings.Repeat("x", 32) + ".c2ln"}, declared))
	newcomer.fails([]string{"Cannot connect to Sim: not signed in"}, "apply", "-no-color", "-auto-approve")
	newcomer.config(key(s, `provider_id = "openai"`, `workspace_id = "nowhere"`, declared))
	newcomer.fails([]string{"Cannot plan keys: workspace not found", "or it is archived", `workspace_id = "nowhere"`}, "apply", "-no-color", "-auto-approve")

	s.ArchiveWorkspace(t, s.WorkspaceID)
	owner.config(key(s, `provider_id = "openai"`, declared))
	owner.fails([]string{"Cannot read key: workspace not found", "HTTP status 404", "terraform state rm"}, "plan", "-no-color")
}

func TestAccSignInWithEmailAndPassword(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := fmt.Sprintf("provider \"byok\" {\n  endpoint = %q\n  workspace_id = %q\n}\n", s.URL, s.WorkspaceID) +
		strings.TrimPrefix(keys(s, 3, `api_key_wo = "`+secretA+`"`), s.ProviderConfig())
	tf := newTerraform(t, map[string]string{envEmail: s.Email, envPassword: s.Password}, config)
	for _, run := range []func(){func() { tf.plan() }, func() { tf.apply("plan.tfplan") }} {
		s.Reset()
		run()
		if got := s.Count("POST", "/sign-in/email"); got != 1 {
			t.Errorf("%d sign-ins, want 1", got)
		}
	}
	for _, r := range s.Requests() {
		if got := r.Header.Get("User-Agent"); !strings.HasPrefix(got, "terraform-provider-byok/test (terraform/1.") {
			t.Errorf("user agent %q", got)
		}
	}
}

func TestAccProviderConfigurationErrors(t *testing.T) {
	t.Parallel()
	tf := newTerraform(t, nil, "provider \"byok\" {\n  email = \"a@b.test\"\n}\ndata \"byok_keys\" \"all\" {}")
	tf.fails([]string{
		"Missing endpoint", "or the environment variable BYOK_ENDPOINT.",
		"Missing password", "An email address is set, but not its password.", "or the environment variable BYOK_PASSWORD.",
	}, "plan", "-no-color")
	tf.must("validate") // nothing of it is asked for before it is needed
}

func TestAccKeysDataSource(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	var openai []string
	for i := range 10 {
		openai = append(openai, s.Add(t, s.WorkspaceID, "openai", secretA, fmt.Sprintf("key %d", i)))
	}
	anthropic := s.Add(t, s.WorkspaceID, "anthropic", "short", "")
	tf := newTerraform(t, nil, s.ProviderConfig()+`
terraform {
  required_providers {
    byok = { source = "hashicorp/byok" }
  }
}
data "byok_keys" "all" {}
data "byok_keys" "openai" {
  provider_id = "openai"
}
data "byok_keys" "none" {
  provider_id = "mistral"
}
data "byok_keys" "elsewhere" {
  workspace_id = "`+s.NewWorkspace(t)+`"
}
output "all" { value = [for k in data.byok_keys.all.keys : k.id] }
output "openai" { value = [for k in data.byok_keys.openai.keys : k.id] }
output "pools" { value = data.byok_keys.all.pools }
output "none" { value = [data.byok_keys.none.keys, data.byok_keys.none.pools] }
output "elsewhere" { value = [data.byok_keys.elsewhere.keys, data.byok_keys.elsewhere.pools] }
output "first" { value = data.byok_keys.all.keys[0] }
output "mask" { value = provider::byok::mask("`+secretA+`") }
`)
	p, _ := tf.plan()
	if lists := s.Count("GET", keysPath); lists != 2 {
		t.Errorf("%d lists for two workspaces", lists)
	}
	pool := func(count int, full bool) map[string]any {
		return map[string]any{
			"count": float64(count), "remaining": float64(10 - count), "full": full,
			"oldest_age_days": float64(0), "undecryptable_ids": []any{}, "repeated_names": []any{}, "effective_scope": "workspace",
		}
	}
	undecryptable, empty := pool(1, false), pool(0, false)
	undecryptable["undecryptable_ids"] = []any{anthropic} // too short a secret to tell
	empty["oldest_age_days"], empty["effective_scope"] = nil, "none"
	stored := s.List(t, s.WorkspaceID)[0]
	var all []any
	for _, id := range append([]string{anthropic}, openai...) {
		all = append(all, id)
	}
	expectOutputs(t, p, map[string]any{
		"all":       all,
		"openai":    all[1:],
		"pools":     map[string]any{"openai": pool(10, true), "anthropic": undecryptable},
		"none":      []any{[]any{}, map[string]any{"mistral": empty}},
		"elsewhere": []any{[]any{}, map[string]any{}},
		"mask":      "sk-tes...aaaa",
		"first": map[string]any{
			"id": anthropic, "provider_id": "anthropic", "name": nil, "masked_key": byok.MaskUnknown, "created_by": *stored.CreatedBy,
			"created_at": stored.CreatedAt, "updated_at": stored.UpdatedAt, "import_id": s.WorkspaceID + "/anthropic/" + anthropic,
		},
	})
}

func expectOutputs(t *testing.T, p *tfjson.Plan, want map[string]any) {
	t.Helper()
	got := map[string]any{}
	for name, o := range p.OutputChanges {
		got[name] = o.After
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A secret that is known to be odd, and one that is stored in state, are
// pointed out.
func TestAccWarnings(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	for title, tc := range map[string]struct {
		arguments []string
		want      string
	}{
		"api_key":     {[]string{`provider_id = "openai"`, `api_key = "` + secretA + `"`}, "Available Write-Only Attribute Alternative"},
		"newline":     {[]string{`provider_id = "openai"`, `api_key_wo = "` + secretA + `\n"`}, "Whitespace around API key"},
		"provider ID": {[]string{`provider_id = "antropic"`, `api_key_wo = "` + secretA + `"`}, `Did you mean "anthropic"?`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			tf := newTerraform(t, nil, key(s, tc.arguments...))
			_, text := tf.plan()
			if !strings.Contains(text, tc.want) {
				t.Errorf("the plan does not say %q:\n%s", tc.want, text)
			}
		})
	}
}

// The examples of the documentation are valid, and plan with a server that has
// nothing.
func TestAccExamples(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	for title, files := range map[string][]string{
		"resource":    {"provider/provider.tf", "resources/byok_key/resource.tf", "resources/byok_key/pool.tf", "resources/byok_key/order.tf"},
		"pool":        {"provider/provider.tf", "resources/byok_pool/resource.tf", "resources/byok_pool/names.tf"},
		"data source": {"provider/provider.tf", "data-sources/byok_keys/data-source.tf"},
		"workspaces":  {"provider/provider.tf", "data-sources/byok_workspaces/data-source.tf"},
		"checks":      {"provider/provider.tf", "data-sources/byok_keys/checks.tf"},
		"inherited":   {"provider/provider.tf", "data-sources/byok_inherited_providers/data-source.tf"},
		"function":    {"provider/provider.tf", "functions/mask/function.tf"},
		"adopting":    {"provider/provider.tf", "guides/adopting/list.tf", "guides/adopting/import.tf"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var config strings.Builder
			for _, file := range files {
				text, err := os.ReadFile(filepath.Join("..", "..", "examples", file))
				if err != nil {
					t.Fatal(err)
				}
				config.Write(text)
			}
			here := strings.NewReplacer("https://sim.example.com", s.URL, "11111111-2222-4333-8444-555555555555", s.WorkspaceID, `"Production"`, strconv.Quote(s.WorkspaceName))
			tf := newTerraform(t, map[string]string{envSessionToken: s.SessionToken}, here.Replace(config.String()))
			secrets := map[string]any{
				"openai_api_key": secretA, "openai_main_api_key": secretA, "openai_api_keys": map[string]string{"primary": secretA, "spare": secretB}, "mistral_api_keys": map[string]string{"first": secretA, "second": secretB},
				"anthropic_api_keys": map[string]string{"team-a": secretA, "team-b": secretA, "overflow": secretB},
			}
			declared, err := json.Marshal(secrets)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tf.Dir, "terraform.tfvars.json"), declared, 0o600); err != nil {
				t.Fatal(err)
			}
			tf.plan()
		})
	}
}

// A bad duration is one error, and no error suggests what is refused.
func TestAccBadDuration(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	for _, duration := range []string{"5 minutes", "-1.5h", "0s"} {
		tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `api_key_wo = "`+secretA+`"`, "timeouts {\n create = \""+duration+"\"\n }"))
		out, err := tf.run("validate", "-no-color")
		if err == nil || strings.Count(out, "Error: ") != 1 || !strings.Contains(out, fmt.Sprintf("%q is not a duration above zero, such as 30s or 5m.", duration)) {
			t.Errorf("%q: %v, want one error:\n%s", duration, err, out)
		}
	}
}

func TestAccBlankName(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "openai"`, `name = "  "`, `api_key_wo = "`+secretA+`"`))
	if out := tf.apply(); !strings.Contains(out, "Warning: Blank name") {
		t.Errorf("no warning:\n%s", out)
	}
	tf.expect(nothing)
}

// What the API refuses of a request is shown at the attribute that it is about.
func TestAccRefusedProviderID(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, key(s, `provider_id = "newcomer"`, `api_key_wo = "`+secretA+`"`))
	tf.plan()
	out, err := tf.run("apply", "-no-color", "plan.tfplan")
	_, refused, found := strings.Cut(out, "Error: Cannot create key: the API refused the request")
	if err == nil || !found || !regexp.MustCompile(`\d+:\s+provider_id = "newcomer"`).MatchString(refused) {
		t.Errorf("%v, want an error at provider_id:\n%s", err, out)
	}
}
