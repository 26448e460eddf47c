// Package server puts the rooms of the reference server together and runs
// them: it opens the database, brings its schema up to date, applies a
// bootstrap document and serves HTTP. What the API says is in api, who may do
// what in access, how keys are kept in keystore. cmd/byok-server and acctest
// call it.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore/backend"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/settings"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/singlekeys"
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
type Server struct {
	cfg      Config
	db       *database.DB
	access   *access.Access
	settings *settings.Pages
	handler  http.Handler
	http     *http.Server
	listener net.Listener
	failed   chan error
}

// Limits against clients that send slowly or too much.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = time.Minute
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// Start returns a server that accepts requests, or an error that says what to
// change. ctx bounds the start, not the server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), failed: make(chan error, 1)}
	if err := s.start(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	cfg := s.cfg
	sealer, err := seal.New(cfg.Secrets.EncryptionKey)
	if err != nil {
		return err
	}
	if cfg.Secrets.AuthSecret == "" || cfg.Secrets.InternalSecret == "" {
		return errors.New("BETTER_AUTH_SECRET and INTERNAL_API_SECRET must not be empty")
	}
	if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	appURL, err := s.appURL()
	if err != nil {
		return err
	}
	if s.db, err = database.Open(ctx, cfg.Database); err != nil {
		return err
	}
	applied, err := s.db.Migrate(ctx)
	if err != nil {
		return err
	}
	for _, step := range applied {
		cfg.Logger.InfoContext(ctx, "migrated", "version", step.Version, "name", step.Name)
	}
	store, err := backend.New(ctx, s.db, cfg.Now)
	if err != nil {
		return err
	}
	s.access, err = access.New(ctx, access.Config{
		DB: s.db, Secret: cfg.Secrets.AuthSecret, Now: cfg.Now, Random: cfg.Random, PasswordCost: cfg.PasswordCost,
	})
	if err != nil {
		return err
	}
	if cfg.DisableAuth {
		if err := s.addAnonymous(ctx); err != nil {
			return err
		}
	}
	if cfg.Bootstrap != nil {
		if err := s.Apply(ctx, cfg.Bootstrap); err != nil {
			return err
		}
	}
	activity := rotation.NewActivity(cfg.Now())
	routes := api.New(api.Config{
		Access: s.access, Store: settings.Watched(store, activity), Single: singlekeys.New(s.db, cfg.Now), Sealer: sealer,
		Rotation: rotation.New(), Activity: activity, Ping: s.db.Ping,
		AppURL: appURL, InternalSecret: cfg.Secrets.InternalSecret, Hosted: cfg.Hosted,
		RateLimit: !cfg.Development, DisableAuth: cfg.DisableAuth,
		Logger: cfg.Logger, Now: cfg.Now, Random: cfg.Random,
	})
	if s.settings, err = settings.New(routes, routes); err != nil {
		return err
	}
	s.handler = s.settings
	s.serve()
	return nil
}

func (cfg Config) withDefaults() Config {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	return cfg
}

func (s *Server) serve() {
	handler := s.handler
	if s.cfg.Middleware != nil {
		handler = s.cfg.Middleware(handler)
	}
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      2 * requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
		// OPTIONS * is answered like every other path.
		DisableGeneralOptionsHandler: true,
	}
	s.http.RegisterOnShutdown(s.settings.EndStreams)
	go func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
}

func (s *Server) appURL() (*url.URL, error) {
	text := s.cfg.AppURL
	if text == "" {
		text = s.URL()
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("app URL %q must be http://HOST[:PORT] or https://HOST[:PORT]", text)
	}
	return u, nil
}

// URL is where the server listens, http://HOST:PORT.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Handler is the API without Config.Middleware.
func (s *Server) Handler() http.Handler { return s.handler }

// Failed receives the error that stopped the server, other than Shutdown.
func (s *Server) Failed() <-chan error { return s.failed }

// Access is the server's users, sessions and permissions.
func (s *Server) Access() *access.Access { return s.access }

// DB is the server's database.
func (s *Server) DB() *database.DB { return s.db }

// MintSession makes a session for the user of email and returns the value of
// its session cookie, percent-encoded.
func (s *Server) MintSession(ctx context.Context, email string) (string, error) {
	user, err := s.access.FindUser(ctx, email)
	if err != nil {
		return "", fmt.Errorf("user %s: %w", email, err)
	}
	in, err := s.access.StartSession(ctx, user, access.SessionLifetime, "", "byok-server")
	if err != nil {
		return "", err
	}
	return s.access.SignCookie(in.Session.Token), nil
}

// Shutdown stops accepting, lets the requests that are under way end until ctx
// does, and closes the database.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were still under way: %w", err), s.http.Close())
	}
	return errors.Join(err, s.db.Close())
}

// release undoes a start that failed.
func (s *Server) release() {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
}

func (s *Server) addAnonymous(ctx context.Context) error {
	_, err := s.access.AddUser(ctx, access.NewUser{ID: access.AnonymousID, Email: access.AnonymousEmail, Name: "Anonymous"})
	if errors.Is(err, access.ErrEmailTaken) {
		return nil
	}
	return err
}
