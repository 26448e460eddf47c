package provider

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// nineKeys is a configuration of nine keys with these arguments in the
// provider block.
func nineKeys(arguments ...string) string {
	return "provider \"byok\" {\n  workspace_id = \"w1\"\n  " + strings.Join(arguments, "\n  ") + "\n}\n" +
		"resource \"byok_key\" \"test\" {\n  count = 9\n  provider_id = \"openai\"\n  api_key_wo = \"" + secretA + "\"\n}\n"
}

// What every key would meet is one error, at the attribute of the provider that
// is wrong, found with one request.
func TestAccConfigureChecksTheSession(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>It works!") }))
	t.Cleanup(pages.Close)
	gateway := httptest.NewServer(http.RedirectHandler("/login", http.StatusFound))
	t.Cleanup(gateway.Close)
	// A port that was free a moment ago can be that of another test's server by
	// now. Nothing is given this one.
	const closedURL = "http://127.0.0.1:1"
	endpoint := func(url string) string { return fmt.Sprintf("endpoint = %q", url) }
	token := fmt.Sprintf("session_token = %q", s.SessionToken)

	for title, tc := range map[string]struct {
		arguments []string
		texts     []string
		at        string // the line that the error points at
		requests  int    // to s
	}{
		"wrong password": {
			[]string{endpoint(s.URL), fmt.Sprintf("email = %q", s.Email), `password = "wrong"`},
			[]string{"Cannot connect to Sim: the sign-in was refused", "email or password is wrong", "HTTP status 401 from " + s.URL + "/api/auth/sign-in/email"},
			"password = ", 1,
		},
		"refused token": {
			[]string{endpoint(s.URL), `session_token = "` + strings.Repeat("x", 32) + `.c2ln"`},
			[]string{"Cannot connect to Sim: not signed in", s.URL + "/api/auth/get-session"},
			"session_token = ", 1,
		},
		"unreachable host": {
			[]string{endpoint(closedURL), token, "max_retries = 1"},
			[]string{"Cannot connect to Sim: the server cannot be reached", "No response from " + closedURL + "/api/auth/get-session: connection refused."},
			"endpoint = ", 0,
		},
		"untrusted certificate": {
			[]string{endpoint(untrusted.URL), token},
			[]string{"Cannot connect to Sim: the certificate of the server is not trusted", "The certificate of " + untrusted.URL + "/api/auth/get-session is signed by an unknown authority."},
			`provider "byok" {`, 0,
		},
		"http for a server with TLS": {
			[]string{endpoint(strings.Replace(untrusted.URL, "https:", "http:", 1)), token},
			[]string{"Cannot connect to Sim: this is not the API of Sim", "the endpoint may have to begin with https://"},
			"endpoint = ", 0,
		},
		"another web server": {
			[]string{endpoint(pages.URL), token},
			[]string{"Cannot connect to Sim: this is not the API of Sim", "it is HTML, not JSON", "HTTP status 200 from " + pages.URL + "/api/workspaces/"},
			"endpoint = ", 0,
		},
		"a gateway that wants its own sign-in": {
			[]string{endpoint(gateway.URL), token},
			[]string{"Cannot connect to Sim: the endpoint redirects", "a gateway may require its own sign-in"},
			"endpoint = ", 0,
		},
		"endpoint with /api": {
			[]string{endpoint(elsewhere.URL + "/api"), token},
			[]string{"Cannot connect to Sim: this is not the API of Sim", "without /api", "HTTP status 404 from " + elsewhere.URL + "/api/api/workspaces/"},
			"endpoint = ", 0,
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			for _, command := range [][]string{{"plan", "-no-color"}, {"apply", "-no-color", "-auto-approve"}} {
				tf := newTerraform(t, nil, nineKeys(tc.arguments...))
				out, err := tf.run(command...)
				if err == nil || strings.Count(out, "Error: ") != 1 {
					t.Errorf("terraform %s: %v, want one error:\n%s", command[0], err, out)
				}
				for _, text := range append(tc.texts, `in provider "byok"`, tc.at) {
					if !strings.Contains(out, text) {
						t.Errorf("terraform %s does not say %q:\n%s", command[0], text, out)
					}
				}
			}
			n := 0
			for _, r := range s.Requests() {
				if strings.Contains(title, "password") == (r.Method == http.MethodPost) {
					n++
				}
			}
			if tc.requests > 0 && n != 2*tc.requests {
				t.Errorf("%d requests of two commands, want %d each", n, tc.requests)
			}
		})
	}
}

// With cap_check off, a plan of new keys asks nothing; validation never does.
func TestAccConfigureOffline(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	arguments := []string{fmt.Sprintf("endpoint = %q", s.URL), fmt.Sprintf("session_token = %q", s.SessionToken)}
	tf := newTerraform(t, nil, nineKeys(arguments...))
	tf.must("validate", "-no-color")
	tf.config(nineKeys(append(arguments, `cap_check = "off"`)...))
	tf.must("plan", "-no-color")
	if got := s.Requests(); len(got) > 0 {
		t.Errorf("%d requests: %v", len(got), got)
	}
}

// A gateway that lets the routes of keys through alone is no obstacle.
func TestAccConfigureBehindAGateway(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t, acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/api/workspaces/") {
				http.NotFound(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}))
	tf := newTerraform(t, nil, keys(s, 2, `api_key_wo = "`+secretA+`"`))
	tf.apply()
	tf.expect(nothing)
}

// The endpoint can follow from a resource that is no longer in state. A destroy
// then says so.
func TestAccDestroyWithoutEndpoint(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	tf := newTerraform(t, nil, fmt.Sprintf(`
resource "terraform_data" "source" {
  input = %q
}
provider "byok" {
  endpoint      = terraform_data.source.output
  workspace_id  = %q
  session_token = %q
}
resource "byok_key" "test" {
  provider_id = "openai"
  api_key_wo  = %q
}
`, s.URL, s.WorkspaceID, s.SessionToken, secretA))
	tf.apply()
	tf.must("state", "rm", "terraform_data.source")
	planned := tf.must("plan", "-no-color")
	for text, times := range map[string]int{"Warning: Provider configuration not known": 1, "does not check what the server stores against the cap": 1} {
		if got := strings.Count(unwrapped(planned), text); got != times {
			t.Errorf("the plan says %q %d times, want %d:\n%s", text, got, times, planned)
		}
	}
	out, err := tf.run("destroy", "-no-color", "-auto-approve")
	if err == nil {
		t.Fatalf("the destroy passes:\n%s", out)
	}
	for _, text := range []string{"Provider configuration not known", "Cannot delete the key (ID ", "of provider ID \"openai\" in workspace \"" + s.WorkspaceID + "\", because the provider byok does not know endpoint", "is no longer in state"} {
		if !strings.Contains(unwrapped(out), text) {
			t.Errorf("it does not say %q:\n%s", text, out)
		}
	}
	if len(s.List(t, s.WorkspaceID)) != 1 {
		t.Error("the key is gone")
	}
}

// unwrapped is what Terraform prints, without the lines that it makes of a
// diagnostic.
func unwrapped(out string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " ")
}

// A pool that declares more keys than the cap fails at plan, whatever the plan
// does not know.
func TestAccPoolAboveTheCapWithUnknowns(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		endpoint, workspaceID, providerID string
		keys                              int
		capCheck                          string
		fails                             bool
		want                              []string
	}{
		"the endpoint":             {endpoint: "later", keys: 11, fails: true, want: []string{`Error: Pool "openai" would hold 11 keys, its cap is 10`, "What the server stores was not counted", "Remove 1 of the keys"}},
		"the endpoint, no error":   {endpoint: "later", keys: 10, want: []string{"Plan: 2 to add"}},
		"the endpoint, a warning":  {endpoint: "later", keys: 11, capCheck: capCheckWarning, want: []string{`Warning: Pool "openai" would hold 11 keys, its cap is 10`}},
		"the endpoint, not asked":  {endpoint: "later", keys: 11, capCheck: capCheckOff, want: []string{"Plan: 2 to add"}},
		"the workspace":            {workspaceID: "later", keys: 11, fails: true, want: []string{`Error: Pool "openai" would hold 11 keys, its cap is 10`}},
		"the workspace, no error":  {workspaceID: "later", keys: 10, want: []string{"Plan: 2 to add"}},
		"the provider ID":          {providerID: "later", keys: 11, fails: true, want: []string{`Error: Pool "not known yet" would hold 11 keys, its cap is 10`}},
		"nothing, which is before": {keys: 11, fails: true, want: []string{`Error: Pool "openai" would hold 11 keys, its cap is 10`, "stored now"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := acctest.Start(t)
			value := func(known, of string) string {
				if of == "later" {
					return `terraform_data.later.output == "x" ? "` + known + `" : "` + known + `"`
				}
				return strconv.Quote(known)
			}
			var settings string
			if tc.capCheck != "" {
				settings = "cap_check = " + strconv.Quote(tc.capCheck)
			}
			tf := newTerraform(t, nil, fmt.Sprintf(`
resource "terraform_data" "later" {
  input = "x"
}
provider "byok" {
  endpoint      = %s
  session_token = %q
  %s
}
resource "byok_pool" "test" {
  workspace_id = %s
  provider_id  = %s
  keys         = { for n in range(%d) : "key-${n}" => { api_key_wo = "%s${n}" } }
}
`, value(s.URL, tc.endpoint), s.SessionToken, settings, value(s.WorkspaceID, tc.workspaceID), value("openai", tc.providerID), tc.keys, secretA))
			out, err := tf.run("plan", "-no-color")
			if (err != nil) != tc.fails {
				t.Errorf("the plan: %v", err)
			}
			for _, text := range tc.want {
				if got := strings.Count(unwrapped(out), text); got != 1 {
					t.Errorf("it says %q %d times:\n%s", text, got, out)
				}
			}
		})
	}
}
