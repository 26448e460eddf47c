package settings_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// world is a server with a workspace of an organization, and one user of each
// kind.
type world struct {
	*acctest.Server
	// colleague is admin of the workspace, superuser of the platform and admin of
	// the organization.
	superuser, writer, reader, stranger acctest.User
}

const organizationID = "acme"

func startWorld(t testing.TB, options ...acctest.Option) *world {
	t.Helper()
	w := &world{}
	w.Server = acctest.Start(t, append([]acctest.Option{acctest.Hosted(), func(c *server.Config) {
		c.Bootstrap.Users = append(c.Bootstrap.Users, server.BootstrapUser{
			Email: "super@example.com", Password: "correct horse battery staple", Name: "Sue Peruser", Superuser: true,
		})
		c.Bootstrap.Organizations = []server.BootstrapOrganization{{
			ID: organizationID, Name: "Acme Corporation", Members: []server.BootstrapMember{{Email: "super@example.com", Role: "admin"}},
		}}
		c.Bootstrap.Workspaces[0].Name = "Production"
		c.Bootstrap.Workspaces[0].OrganizationID = organizationID
	}}, options...)...)
	w.superuser = w.User(t, "super@example.com")
	w.writer, w.reader = w.NewUser(t, "write", w.WorkspaceID), w.NewUser(t, "read", w.WorkspaceID)
	w.stranger = w.NewUser(t, "")
	return w
}

// page is a path of the settings page.
func (w *world) page(query string) string {
	path := "/workspace/" + w.WorkspaceID + "/settings/byok"
	if query != "" {
		path += "?" + query
	}
	return path
}

// addOrganization stores a key of the organization and returns its ID.
func (w *world) addOrganization(t *testing.T, providerID, apiKey, name string) string {
	t.Helper()
	var saved byok.SaveResponse
	w.Call(t, w.superuser, http.MethodPost, "/api/organizations/"+organizationID+"/byok-keys",
		byok.SaveRequest{ProviderID: providerID, APIKey: apiKey, Name: &name}, &saved)
	return saved.Key.ID
}

// fill stores keys as a busy workspace has them, and serves some.
func (w *world) fill(t *testing.T) {
	t.Helper()
	names := []string{"production-eu", "production-us", "", "batch", "evaluation", "Team Kappa, until its own workspace is set up", "spare"}
	for _, pool := range []struct {
		providerID, prefix string
		size               int
	}{{"openai", "sk-proj-", 7}, {"anthropic", "sk-ant-", 3}, {"google", "AIzaSy", 1}, {"exa", "exa-live-", 10}, {"hunter", "hunter-", 2}} {
		for i := range pool.size {
			w.Add(t, w.WorkspaceID, pool.providerID, fmt.Sprintf("%sabcdefghijkl%04d", pool.prefix, 1009+i*2713%9000), names[i%len(names)])
		}
	}
	for _, key := range w.List(t, w.WorkspaceID) {
		if key.ProviderID == "openai" && key.Name != nil && *key.Name == "evaluation" {
			w.Corrupt(t, key.ID)
		}
	}
	w.addOrganization(t, "mistral", "mistral-organization-key-1234", "shared")
	w.addOrganization(t, "openai", "sk-organization-key-5678", "shared")
	for providerID, n := range map[string]int{"openai": 131, "anthropic": 47, "google": 12} {
		for range n {
			w.Resolve(t, w.WorkspaceID, providerID)
		}
	}
}

func add(providerID string) string { return "[data-provider=" + providerID + "] [data-do=add]" }

func manage(providerID string) string { return "[data-provider=" + providerID + "] [data-do=manage]" }

// keyButton is a button of a key in the open dialog; n counts from 1.
func keyButton(n int, do string) string {
	return fmt.Sprintf("#manage-keys .key:nth-child(%d) [data-do=%s]", n, do)
}

// get reads a path as a user.
func (w *world) get(t *testing.T, as acctest.User, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", "better-auth.session_token="+as.SessionToken)
	status, body, _ := strings.Cut(response(t, r), " ")
	if status != "200" {
		t.Fatalf("GET %s: %s %s", path, status, body)
	}
	return body
}

// response is the status and the body of a request.
func response(t *testing.T, r *http.Request) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(response.StatusCode) + " " + string(body)
}

// checkFormatted fails for HCL that is not as terraform fmt writes it.
func checkFormatted(t *testing.T, text string) {
	t.Helper()
	formatted := hclwrite.Format([]byte(text))
	if diff := cmp.Diff(string(formatted), text); diff != "" {
		t.Errorf("terraform fmt would change:\n%s", diff)
	}
	if _, problems := hclsyntax.ParseConfig([]byte(text), "export.tf", hcl.InitialPos); problems.HasErrors() {
		t.Errorf("%v in\n%s", problems, text)
	}
}

// faults lets a test fail requests of the page and cut its streams.
type faults struct {
	fail atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]

	mu      sync.Mutex
	streams []context.CancelFunc
}

// set has fail response requests; what it returns false for goes on.
func (f *faults) set(fail func(http.ResponseWriter, *http.Request) bool) { f.fail.Store(&fail) }

// cut ends every open stream.
func (f *faults) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, end := range f.streams {
		end()
	}
	f.streams = nil
}

func (f *faults) option() acctest.Option {
	return acctest.WithMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if fail := f.fail.Load(); fail != nil && (*fail)(w, r) {
				return
			}
			if strings.HasSuffix(r.URL.Path, "/events") {
				ctx, end := context.WithCancel(r.Context())
				defer end()
				f.mu.Lock()
				f.streams = append(f.streams, end)
				f.mu.Unlock()
				r = r.WithContext(ctx)
			}
			next.ServeHTTP(w, r)
		})
	})
}

// syncBuffer can be read while a server logs to it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
