// Package acctest starts a reference server for a test and hands over what a
// client needs to reach it. It is the one place, with other tests, where the
// provider's side and the server's side meet.
//
// Where BYOK_ACC_ENDPOINT names a server, tests use that one. BYOK_ACC_WORLD is
// then a file in the format of byok-server's bootstrap document with the users
// and workspaces that the server has (testdata/world.json is one); each test
// takes a workspace of its own and deletes its keys. What needs more than the
// API is skipped, and the skip says why; BYOK_ACC_INTERNAL_SECRET opens POST
// /reference/resolve, if the server has it. The server must not limit sign-ins
// (byok-server --development). Test binaries that run at the same time would
// take the same workspaces: run go test with -p 1.
package acctest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/byokserver"
)

// Server is a reference server that lives as long as its test.
type Server struct {
	URL string
	// WorkspaceID is a workspace that the user of Email owns.
	WorkspaceID string
	// WorkspaceName is its name.
	WorkspaceName string
	// SessionToken is the user's session cookie value, signed and
	// percent-encoded.
	SessionToken    string
	Email, Password string
	// InternalSecret opens POST /reference/resolve.
	InternalSecret string

	server    *server.Server // nil elsewhere
	elsewhere *elsewhere     // nil for a server of the test's own
	colleague string         // session cookie value

	mu       sync.Mutex
	requests []Request
	made     int
}

// Option changes how Start starts a server.
type Option func(*server.Config)

// workspaceName is that of each workspace of a server of the test's own.
const workspaceName = "Acceptance"

// User can sign in.
type User struct {
	Email, Password, SessionToken string
}

// Request is one request as it reached the server.
type Request struct {
	Method, Path string
	// Query is what follows the question mark.
	Query string
	// Header includes the Cookie header.
	Header http.Header
	Body   []byte
	// Status is 0 where the connection was cut without a response.
	Status int
}

// Served is the response of a resolve.
type Served = byokserver.Served

// Hosted entitles organizations to keys of their own.
func Hosted() Option { return func(c *server.Config) { c.Hosted = true } }

// RateLimited keeps the sign-in limit of 3 requests per 10 s, which tests
// otherwise do without.
func RateLimited() Option { return func(c *server.Config) { c.Development = false } }

// WithDatabase runs on another database than one in memory.
func WithDatabase(target string) Option { return func(c *server.Config) { c.Database = target } }

// WithMiddleware wraps the server, inside the request log, so that a test can
// delay, drop or change requests and responses. Side-door calls pass it by.
func WithMiddleware(wrap func(http.Handler) http.Handler) Option {
	return func(c *server.Config) { c.Middleware = wrap }
}

const (
	owner        = "owner@example.com"
	colleague    = "colleague@example.com"
	password     = "correct horse battery staple"
	cheapScrypt  = 2
	stopDeadline = 10 * time.Second
)

// Start starts a server with one user, one workspace of theirs and a colleague
// who is admin of it.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	other, err := fromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, other, opts...)
}

// start is Start, on another server unless that is nil.
func start(t testing.TB, other *elsewhere, opts ...Option) *Server {
	t.Helper()
	s := &Server{WorkspaceID: access.NewUUID(rand.Reader), WorkspaceName: workspaceName, Email: owner, Password: password, InternalSecret: rand.Text()}
	cfg := server.Config{
		Database: "sqlite::memory:",
		// The response to sign-in does not depend on what hashing costs.
		PasswordCost: cheapScrypt,
		Development:  true,
		Secrets: server.Secrets{
			EncryptionKey:  strings.Repeat("00112233445566778899aabbccddeeff", 2),
			AuthSecret:     rand.Text(),
			InternalSecret: s.InternalSecret,
		},
		Bootstrap: &server.Bootstrap{
			Users: []server.BootstrapUser{
				{Email: owner, Password: password, Name: "Owner"},
				{Email: colleague, Password: password, Name: "Colleague"},
			},
			Workspaces: []server.BootstrapWorkspace{s.workspace(s.WorkspaceID)},
		},
	}
	plain := cfg
	for _, opt := range opts {
		opt(&cfg)
	}
	faults := cfg.Middleware
	cfg.Middleware = nil // functions cannot be compared
	configured := !reflect.DeepEqual(cfg, plain)
	cfg.Middleware = func(next http.Handler) http.Handler {
		if faults != nil {
			next = faults(next)
		}
		return s.record(next)
	}
	if other != nil {
		other.start(t, s, cfg.Middleware)
		if configured {
			s.sideDoor(t, "a server with options of its own")
		}
		return s
	}
	var err error
	if s.server, err = server.Start(t.Context(), cfg); err != nil {
		t.Fatalf("reference server: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopDeadline)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			t.Errorf("reference server: %v", err)
		}
	})
	s.URL = s.server.URL()
	s.SessionToken, s.colleague = s.session(t, owner), s.session(t, colleague)
	return s
}

// ProviderConfig is a provider block for this server, workspace and session.
func (s *Server) ProviderConfig() string {
	return fmt.Sprintf("provider \"byok\" {\n  endpoint      = %q\n  workspace_id  = %q\n  session_token = %q\n}\n",
		s.URL, s.WorkspaceID, s.SessionToken)
}

// Requests returns what was logged since the start or the last Reset, in the
// order in which the requests ended.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count counts logged requests by method ("" for any) and end of path.
func (s *Server) Count(method, pathSuffix string) int {
	n := 0
	for _, r := range s.Requests() {
		if (method == "" || r.Method == method) && strings.HasSuffix(r.Path, pathSuffix) {
			n++
		}
	}
	return n
}

// Reset empties the request log.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// IsElsewhere reports whether the server is not the test's own. It may be slow.
func (s *Server) IsElsewhere() bool { return s.elsewhere != nil }

// CanResolve reports whether the server can be asked for a key as a workflow
// run would.
func (s *Server) CanResolve() bool { return s.InternalSecret != "" }

// The side door: what another user does, through the same API as a colleague
// who is admin of the workspace. It is neither logged nor counted nor subject
// to faults. Failures end the test.

// List returns the keys of a workspace.
func (s *Server) List(t testing.TB, workspaceID string) []byok.Key {
	t.Helper()
	return s.ListIn(t, byok.WorkspaceScope(workspaceID))
}

// ListIn returns the keys of a scope.
func (s *Server) ListIn(t testing.TB, scope byok.Scope) []byok.Key {
	t.Helper()
	var response byok.ListResponse
	s.call(t, http.MethodGet, scope.KeysPath(), nil, &response)
	return response.Keys
}

// Add stores a key and returns its ID. An empty name is none.
func (s *Server) Add(t testing.TB, workspaceID, providerID, apiKey, name string) string {
	t.Helper()
	return s.AddTo(t, byok.Pool{Scope: byok.WorkspaceScope(workspaceID), ProviderID: providerID}, apiKey, name)
}

// AddTo stores a key in a pool and returns its ID. An empty name is none.
func (s *Server) AddTo(t testing.TB, pool byok.Pool, apiKey, name string) string {
	t.Helper()
	var response byok.SaveResponse
	s.call(t, http.MethodPost, pool.Scope.KeysPath(), byok.SaveRequest{ProviderID: pool.ProviderID, APIKey: apiKey, Name: &name}, &response)
	return response.Key.ID
}

// Replace gives a key another secret; a nil name leaves the name alone.
func (s *Server) Replace(t testing.TB, workspaceID, providerID, keyID, apiKey string, name *string) {
	t.Helper()
	s.ReplaceIn(t, byok.Pool{Scope: byok.WorkspaceScope(workspaceID), ProviderID: providerID}, keyID, apiKey, name)
}

// ReplaceIn gives a key of a pool another secret; a nil name leaves the name
// alone.
func (s *Server) ReplaceIn(t testing.TB, pool byok.Pool, keyID, apiKey string, name *string) {
	t.Helper()
	s.call(t, http.MethodPost, pool.Scope.KeysPath(), byok.SaveRequest{ProviderID: pool.ProviderID, APIKey: apiKey, KeyID: keyID, Name: name}, nil)
}

// Delete removes a key.
func (s *Server) Delete(t testing.TB, workspaceID, providerID, keyID string) {
	t.Helper()
	s.DeleteFrom(t, byok.Pool{Scope: byok.WorkspaceScope(workspaceID), ProviderID: providerID}, keyID)
}

// DeleteFrom removes a key of a pool.
func (s *Server) DeleteFrom(t testing.TB, pool byok.Pool, keyID string) {
	t.Helper()
	s.call(t, http.MethodDelete, pool.Scope.KeysPath(), byok.DeleteRequest{ProviderID: pool.ProviderID, KeyID: keyID}, nil)
}

// Resolve asks for a key as a workflow run would; nil when there is none.
func (s *Server) Resolve(t testing.TB, workspaceID, providerID string) *Served {
	t.Helper()
	if !s.CanResolve() {
		s.sideDoor(t, "POST /reference/resolve, with "+envInternalSecret)
	}
	var response *Served
	s.call(t, http.MethodPost, "/reference/resolve", map[string]string{"workspaceId": workspaceID, "providerId": providerID}, &response)
	return response
}

// NewNamedWorkspace makes another workspace of the same user, in an organization
// unless organizationID is empty, and returns its ID.
func (s *Server) NewNamedWorkspace(t testing.TB, name, organizationID string) string {
	t.Helper()
	s.sideDoor(t, "a workspace with a name or an organization")
	w := s.workspace(access.NewUUID(rand.Reader))
	w.Name, w.OrganizationID = name, organizationID
	s.apply(t, &server.Bootstrap{Workspaces: []server.BootstrapWorkspace{w}})
	return w.ID
}

// NewOrganization makes an organization that the user owns, with a colleague as
// admin, and returns its ID. It may store keys if the server is Hosted.
func (s *Server) NewOrganization(t testing.TB) string {
	t.Helper()
	s.sideDoor(t, "an organization")
	id := access.NewUUID(rand.Reader)
	s.apply(t, &server.Bootstrap{Organizations: []server.BootstrapOrganization{{ID: id, Name: "Acceptance", Members: []server.BootstrapMember{
		{Email: owner, Role: "owner"}, {Email: colleague, Role: "admin"},
	}}}})
	return id
}

// PutMember makes a user a member of an organization: owner, admin or member.
func (s *Server) PutMember(t testing.TB, organizationID, email, role string) {
	t.Helper()
	s.sideDoor(t, "a member of an organization")
	s.apply(t, &server.Bootstrap{Organizations: []server.BootstrapOrganization{{ID: organizationID, Name: "Acceptance", Members: []server.BootstrapMember{
		{Email: email, Role: role},
	}}}})
}

// NewWorkspace makes another workspace of the same user and returns its ID.
func (s *Server) NewWorkspace(t testing.TB) string {
	t.Helper()
	if s.elsewhere != nil {
		return s.elsewhere.claim(t, s)
	}
	id := access.NewUUID(rand.Reader)
	s.apply(t, &server.Bootstrap{Workspaces: []server.BootstrapWorkspace{s.workspace(id)}})
	return id
}

// NewUser makes a user with read, write or admin permission on workspaces;
// permission "" makes a stranger.
func (s *Server) NewUser(t testing.TB, permission string, workspaceIDs ...string) User {
	t.Helper()
	if s.elsewhere != nil {
		u, err := s.elsewhere.user(permission, workspaceIDs)
		if err != nil {
			t.Skipf("NOT RUN: %s: this test %v", envWorld, err)
		}
		u.SessionToken = s.elsewhere.session(t, u.Email)
		return u
	}
	s.mu.Lock()
	s.made++
	u := User{Email: fmt.Sprintf("user%d@example.com", s.made), Password: password}
	s.mu.Unlock()
	s.apply(t, &server.Bootstrap{Users: []server.BootstrapUser{{Email: u.Email, Password: u.Password, Name: "User"}}})
	if permission != "" {
		for _, id := range workspaceIDs {
			s.PutPermission(t, id, u.Email, permission)
		}
	}
	u.SessionToken = s.session(t, u.Email)
	return u
}

// PutPermission gives a user read, write or admin permission on a workspace.
func (s *Server) PutPermission(t testing.TB, workspaceID, email, permission string) {
	t.Helper()
	s.sideDoor(t, "a permission")
	user, err := s.server.Access().FindUser(t.Context(), email)
	if err == nil {
		err = s.server.Access().PutPermission(t.Context(), workspaceID, user.ID, access.Permission(permission))
	}
	if err != nil {
		t.Fatalf("permission of %s: %v", email, err)
	}
}

// User returns a user of the bootstrap document, signed in.
func (s *Server) User(t testing.TB, email string) User {
	t.Helper()
	s.sideDoor(t, "a user of its own")
	return User{Email: email, Password: password, SessionToken: s.session(t, email)}
}

// Call sends a request as a user by the side door.
func (s *Server) Call(t testing.TB, as User, method, path string, body, into any) {
	t.Helper()
	s.sideDoor(t, "a request as another user")
	s.callAs(t, as.SessionToken, method, path, body, into)
}

// ArchiveWorkspace archives a workspace.
func (s *Server) ArchiveWorkspace(t testing.TB, workspaceID string) {
	t.Helper()
	s.Exec(t, "UPDATE workspace SET archived_at = created_at WHERE id = $1", workspaceID)
}

// EndSessions deletes every session of the user of email.
func (s *Server) EndSessions(t testing.TB, email string) {
	t.Helper()
	s.Exec(t, `DELETE FROM session WHERE user_id = (SELECT id FROM "user" WHERE email = $1)`, email)
}

// Corrupt makes a stored key undecryptable.
func (s *Server) Corrupt(t testing.TB, keyID string) {
	t.Helper()
	s.Exec(t, "UPDATE workspace_byok_keys SET encrypted_api_key = 'garbage' WHERE id = $1", keyID)
}

// Exec changes the database behind the server's back.
func (s *Server) Exec(t testing.TB, query string, args ...any) {
	t.Helper()
	s.sideDoor(t, "a change to the server's database")
	if _, err := s.server.DB().Write.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (s *Server) workspace(id string) server.BootstrapWorkspace {
	return server.BootstrapWorkspace{
		ID: id, Name: workspaceName, Owner: owner,
		Members: []server.BootstrapPermission{{Email: colleague, Permission: "admin"}},
	}
}

func (s *Server) session(t testing.TB, email string) string {
	t.Helper()
	value, err := s.server.MintSession(t.Context(), email)
	if err != nil {
		t.Fatalf("session: %v", err)
	}
	return value
}

func (s *Server) apply(t testing.TB, doc *server.Bootstrap) {
	t.Helper()
	if err := s.server.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
}

// call goes straight to the API, past the log and the faults.
func (s *Server) call(t testing.TB, method, path string, body, into any) {
	t.Helper()
	if s.elsewhere != nil {
		status, text, err := s.door().Do(t.Context(), method, path, body, into)
		if err != nil || status != http.StatusOK {
			t.Fatalf("side door: %s %s: %d %s, %v", method, path, status, text, err)
		}
		return
	}
	s.callAs(t, s.colleague, method, path, body, into)
}

func (s *Server) callAs(t testing.TB, session, method, path string, body, into any) {
	t.Helper()
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, &payload)
	r.Header.Set("Cookie", "better-auth.session_token="+session)
	r.Header.Set("Authorization", "Bearer "+s.InternalSecret)
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("side door: %s %s: %d %s", method, path, w.Code, w.Body)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("side door: %s %s: %v", method, path, err)
		}
	}
}

// record logs requests, those too whose connection a fault cuts.
func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		logged := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: body}
		status := &statusWriter{ResponseWriter: w}
		defer func() {
			logged.Status = status.status
			s.mu.Lock()
			defer s.mu.Unlock()
			s.requests = append(s.requests, logged)
		}()
		next.ServeHTTP(status, r)
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
