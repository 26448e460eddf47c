// Package acctest starts a reference server for a test and hands over what a
// client needs to reach it. It is the one place, with other tests, where the
// provider's side and the server's side meet.
package acctest

import (
	"net/http"
	"testing"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Server is a reference server that lives as long as its test.
type Server struct {
	URL string
	// WorkspaceID is a workspace that the user of Email owns.
	WorkspaceID string
	// SessionToken is the user's session cookie value, signed and
	// percent-encoded.
	SessionToken    string
	Email, Password string
	// InternalSecret opens POST /reference/resolve.
	InternalSecret string
}

// Option changes how Start starts a server.
type Option func(*options)

type options struct{}

// User is somebody who can sign in.
type User struct {
	Email, Password, SessionToken string
}

// Request is one request as it reached the server.
type Request struct {
	Method, Path string
	// Header includes the Cookie header.
	Header http.Header
	Body   []byte
	Status int
}

// Served is the answer of a resolve.
type Served struct {
	APIKey string `json:"apiKey"`
	Scope  string `json:"scope"`
	KeyID  string `json:"keyId"`
}

// Hosted entitles organizations to keys of their own.
func Hosted() Option { return func(*options) {} }

// RateLimited keeps the sign-in limit of 3 requests per 10 s, which tests
// otherwise do without.
func RateLimited() Option { return func(*options) {} }

// WithDatabase runs on another database than one in memory.
func WithDatabase(target string) Option { return func(*options) {} }

// WithMiddleware wraps the server, inside the request log, so that a test can
// delay, drop or change requests and answers. Side-door calls pass it by.
func WithMiddleware(wrap func(http.Handler) http.Handler) Option { return func(*options) {} }

// Start starts a server with one user, one workspace of theirs and a colleague
// who is admin of it.
func Start(t testing.TB, opts ...Option) *Server { t.Helper(); return &Server{} }

// ProviderConfig is a provider block for this server, workspace and session.
func (s *Server) ProviderConfig() string { return "" }

// Requests returns what was logged since the start or the last Reset.
func (s *Server) Requests() []Request { return nil }

// Count counts logged requests by method ("" for any) and end of path.
func (s *Server) Count(method, pathSuffix string) int { return 0 }

// Reset empties the request log.
func (s *Server) Reset() {}

// The side door: what somebody else does, through the same API as a colleague
// who is admin of the workspace. It is neither logged nor counted nor subject
// to faults. Failures end the test.

// List returns the keys of a workspace.
func (s *Server) List(t testing.TB, workspaceID string) []byok.Key { return nil }

// Add stores a key and returns its ID. An empty name is none.
func (s *Server) Add(t testing.TB, workspaceID, providerID, apiKey, name string) string { return "" }

// Replace gives a key another secret; a nil name leaves the name alone.
func (s *Server) Replace(t testing.TB, workspaceID, providerID, keyID, apiKey string, name *string) {
}

// Delete removes a key.
func (s *Server) Delete(t testing.TB, workspaceID, providerID, keyID string) {}

// Resolve asks for a key as a workflow run would; nil when there is none.
func (s *Server) Resolve(t testing.TB, workspaceID, providerID string) *Served { return nil }

// NewWorkspace makes another workspace of the same user and returns its ID.
func (s *Server) NewWorkspace(t testing.TB) string { return "" }

// NewUser makes a user with read, write or admin permission on workspaces;
// permission "" makes a stranger.
func (s *Server) NewUser(t testing.TB, permission string, workspaceIDs ...string) User {
	return User{}
}

// ArchiveWorkspace archives a workspace.
func (s *Server) ArchiveWorkspace(t testing.TB, workspaceID string) {}

// EndSessions deletes every session of the user of email.
func (s *Server) EndSessions(t testing.TB, email string) {}

// Corrupt makes a stored key undecryptable.
func (s *Server) Corrupt(t testing.TB, keyID string) {}
