// Package server puts the rooms of the reference server together and runs
// them: it opens the database, brings its schema up to date, applies a
// bootstrap document and serves HTTP. What the API says is in api, who may do
// what in access, how keys are kept in keystore. cmd/byok-server and acctest
// call it.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Config is what a Server is made of. Only Database and the three secrets are
// needed.
type Config struct {
	// Listen is the TCP address; default 127.0.0.1:0, any free port.
	Listen string
	// Database is sqlite:PATH, sqlite::memory: or postgres://...
	Database string
	// AppURL is the public URL, by which cookies are named and origins are
	// checked; default the URL that the server listens on.
	AppURL string
	// Hosted entitles every organization to keys of its own.
	Hosted bool
	// Development switches the rate limit of sign-in and sign-up off.
	Development bool
	// DisableAuth makes every request act as the anonymous user.
	DisableAuth bool

	Secrets   Secrets
	Bootstrap *Bootstrap

	// Version is what byok-server says it is; default "dev".
	Version string
	// Logger gets one line per request and the audit log; default none.
	Logger *slog.Logger
	// Now is the clock, Random the source of IDs and tokens, PasswordCost the
	// N of scrypt; defaults: the real ones.
	Now          func() time.Time
	Random       io.Reader
	PasswordCost int
	// Middleware wraps the whole handler, for a test's faults and counts.
	Middleware func(http.Handler) http.Handler
}

// Secrets are the server's three secrets, under Sim's names.
type Secrets struct {
	// EncryptionKey is 64 hex digits, ENCRYPTION_KEY.
	EncryptionKey string
	// AuthSecret signs session cookies, BETTER_AUTH_SECRET.
	AuthSecret string
	// InternalSecret opens POST /reference/resolve, INTERNAL_API_SECRET.
	InternalSecret string
}

// Server is a running reference server.
type Server struct{}

// Start returns a server that accepts requests, or an error that says what to
// change.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return nil, errors.ErrUnsupported
}

// URL is where the server listens, http://HOST:PORT.
func (s *Server) URL() string { return "" }

// Handler is the API without Config.Middleware.
func (s *Server) Handler() http.Handler { return nil }

// MintSession makes a session for the user of email and returns the value of
// its session cookie, percent-encoded.
func (s *Server) MintSession(ctx context.Context, email string) (string, error) {
	return "", errors.ErrUnsupported
}

// Apply applies a bootstrap document; what is there already stays.
func (s *Server) Apply(ctx context.Context, doc *Bootstrap) error { return errors.ErrUnsupported }

// Shutdown lets the requests that are under way end, until ctx does.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
