package acctest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

// The environment variables that make the tests use a server that they have not
// started.
const (
	envEndpoint       = "BYOK_ACC_ENDPOINT"
	envWorld          = "BYOK_ACC_WORLD"
	envInternalSecret = "BYOK_ACC_INTERNAL_SECRET"

	// claimTimeout is how long a test waits for a workspace that others use.
	claimTimeout = 10 * time.Minute
	// signInPause is longer than the server's limit on sign-ins needs.
	signInPause = 4 * time.Second
)

// elsewhere is a server that the tests have not started, and what it holds.
type elsewhere struct {
	endpoint       *url.URL
	internalSecret string // empty where it is not known
	world          *server.Bootstrap
	owner          string // of all workspaces
	colleague      string // admin of all workspaces

	free chan string // IDs of workspaces that no test uses

	mu       sync.Mutex
	sessions map[string]string // by email
}

// fromEnvironment is the server that the environment names, nil for none.
var fromEnvironment = sync.OnceValues(func() (*elsewhere, error) {
	if os.Getenv(envEndpoint) == "" {
		return nil, nil //nolint:nilnil // none is named
	}
	file, err := os.Open(os.Getenv(envWorld))
	if err != nil {
		return nil, fmt.Errorf("%s needs the users and workspaces of the server in %s, a bootstrap document: %w", envEndpoint, envWorld, err)
	}
	defer file.Close()
	world, err := server.ReadBootstrap(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envWorld, err)
	}
	return newElsewhere(os.Getenv(envEndpoint), os.Getenv(envInternalSecret), world)
})

func newElsewhere(endpoint, internalSecret string, world *server.Bootstrap) (*elsewhere, error) {
	e := &elsewhere{internalSecret: internalSecret, world: world, free: make(chan string, len(world.Workspaces)), sessions: map[string]string{}}
	var err error
	if e.endpoint, err = url.Parse(endpoint); err != nil {
		return nil, fmt.Errorf("%s: %w", envEndpoint, err)
	}
	if e.endpoint.Scheme != "http" {
		return nil, fmt.Errorf("%s: the scheme of %s must be http: on https the session cookie has another name", envEndpoint, endpoint)
	}
	for i, w := range world.Workspaces {
		admins := slices.DeleteFunc(slices.Clone(w.Members), func(m server.BootstrapPermission) bool { return m.Permission != "admin" })
		if len(admins) == 0 {
			return nil, fmt.Errorf("%s: workspace %s has no admin beside its owner", envWorld, w.ID)
		}
		if i == 0 {
			e.owner, e.colleague = w.Owner, admins[0].Email
		}
		if w.Owner != e.owner || e.permission(e.colleague, w.ID) != "admin" {
			return nil, fmt.Errorf("%s: workspace %s must have the owner %s and the admin %s, as the first one", envWorld, w.ID, e.owner, e.colleague)
		}
		e.free <- w.ID
	}
	if len(world.Workspaces) == 0 {
		return nil, fmt.Errorf("%s has no workspaces", envWorld)
	}
	return e, nil
}

// permission is that of a member of a workspace, empty for others.
func (e *elsewhere) permission(email, workspaceID string) string {
	for _, w := range e.world.Workspaces {
		for _, m := range w.Members {
			if w.ID == workspaceID && m.Email == email {
				return m.Permission
			}
		}
	}
	return ""
}

func (e *elsewhere) password(email string) string {
	for _, user := range e.world.Users {
		if user.Email == email {
			return user.Password
		}
	}
	return ""
}

// session signs a user in, once for all tests.
func (e *elsewhere) session(t testing.TB, email string) string {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for attempt := 1; e.sessions[email] == ""; attempt++ {
		session, err := byokserver.SignIn(t.Context(), e.endpoint.String(), email, e.password(email))
		if err == nil {
			e.sessions[email] = session
			break
		}
		if attempt == 5 || !strings.Contains(err.Error(), fmt.Sprint(http.StatusTooManyRequests)) {
			t.Fatalf("%s: %v", envEndpoint, err)
		}
		time.Sleep(signInPause)
	}
	return e.sessions[email]
}

// start makes s use the server: through a proxy of its own, which logs requests
// and has the test's middleware, and in a workspace of its own.
func (e *elsewhere) start(t testing.TB, s *Server, middleware func(http.Handler) http.Handler) {
	t.Helper()
	s.elsewhere, s.InternalSecret = e, e.internalSecret
	s.Email, s.Password = e.owner, e.password(e.owner)
	s.SessionToken, s.colleague = e.session(t, e.owner), e.session(t, e.colleague)
	s.WorkspaceID = e.claim(t, s)
	for _, w := range e.world.Workspaces {
		if w.ID == s.WorkspaceID {
			s.WorkspaceName = w.Name
		}
	}
	proxy := httptest.NewServer(middleware(&httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(e.endpoint) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}))
	t.Cleanup(proxy.Close)
	s.URL = proxy.URL
}

// claim takes an empty workspace for the time of the test.
func (e *elsewhere) claim(t testing.TB, s *Server) string {
	t.Helper()
	select {
	case id := <-e.free:
		t.Cleanup(func() {
			if err := s.empty(id); err != nil {
				t.Errorf("workspace %s is not used again: %v", id, err)
				return
			}
			e.free <- id
		})
		if err := s.empty(id); err != nil {
			t.Fatal(err)
		}
		return id
	case <-time.After(claimTimeout):
		t.Fatalf("other tests use all %d workspaces of %s: list more, or run fewer tests at a time (-parallel)", cap(e.free), envWorld)
	}
	return ""
}

// empty deletes every key of a workspace.
func (s *Server) empty(workspaceID string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopDeadline)
	defer cancel()
	var list byok.ListResponse
	door := s.door()
	status, text, err := door.Do(ctx, http.MethodGet, byokserver.KeysPath(workspaceID), nil, &list)
	for _, key := range list.Keys {
		if err != nil || status != http.StatusOK {
			break
		}
		status, text, err = door.Do(ctx, http.MethodDelete, byokserver.KeysPath(workspaceID), byok.DeleteRequest{ProviderID: key.ProviderID, KeyID: key.ID}, nil)
	}
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, text)
	}
	return err
}

func (s *Server) door() byokserver.Door {
	return byokserver.Door{
		Client: http.DefaultClient, URL: s.elsewhere.endpoint.String, Session: s.colleague, InternalSecret: s.InternalSecret,
	}
}

// user finds a user with a permission on workspaces, or one with none anywhere.
func (e *elsewhere) user(permission string, workspaceIDs []string) (User, error) {
	if permission == "" {
		workspaceIDs = nil
		for _, w := range e.world.Workspaces {
			workspaceIDs = append(workspaceIDs, w.ID)
		}
	}
	for _, user := range e.world.Users {
		other := func(id string) bool { return e.permission(user.Email, id) != permission }
		if user.Email != e.owner && user.Email != e.colleague && !slices.ContainsFunc(workspaceIDs, other) {
			return User{Email: user.Email, Password: user.Password}, nil
		}
	}
	if permission == "" {
		return User{}, errors.New("needs a user without any workspace")
	}
	return User{}, fmt.Errorf("needs a user with %s permission on every workspace, beside the owner and the first admin", permission)
}

// sideDoor skips a test that needs more of the server than its API.
func (s *Server) sideDoor(t testing.TB, needs string) {
	t.Helper()
	if s.elsewhere != nil {
		t.Skipf("NOT RUN: %s is set, and this test needs a side door: %s", envEndpoint, needs)
	}
}
