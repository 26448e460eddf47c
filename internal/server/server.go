// Package server puts the rooms of the reference server together and runs
// them: it opens the database, brings its schema up to date, applies a
// bootstrap document and serves HTTP. What the API says is in api, who may do
// what in access, how keys are kept in keystore. cmd/byok-server and acctest
// call it.
package server

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/encryption"
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
	// AdminListen, if set, is the address that serves /reference/ instead of
	// Listen.
	AdminListen string
	// TLSCert and TLSKey are PEM files; with them the server speaks HTTPS only.
	TLSCert, TLSKey string
	// Database is sqlite:PATH, sqlite::memory: or postgres://...
	Database string
	// AppURL is the public URL, by which cookies are named and origins are
	// checked; default the URL that the server listens on.
	AppURL string
	// TrustedProxies are the addresses of the proxies in front, whose
	// X-Forwarded-For is believed: IP addresses or CIDR prefixes. None means
	// proxies on this machine.
	TrustedProxies []string
	// DisableSignUp refuses new users; those of the bootstrap document and of
	// the command line are added all the same.
	DisableSignUp bool
	// Hosted entitles every organization to keys of its own.
	Hosted bool
	// Development switches the rate limit of sign-in and sign-up off.
	Development bool
	// DisableAuth makes every request act as the anonymous user.
	DisableAuth bool

	Secrets   Secrets
	Bootstrap *Bootstrap

	// Logger gets one line per request; default none. Audit gets the audit log;
	// default Logger.
	Logger, Audit *slog.Logger
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
	// DecryptionKeys are further encryption keys, separated by commas, that open
	// what they have sealed and seal nothing, DECRYPTION_KEYS.
	DecryptionKeys string
}

// Sealer returns what seals and opens with the encryption keys.
func (s Secrets) Sealer() (*seal.Sealer, error) {
	var others []string
	for other := range strings.SplitSeq(s.DecryptionKeys, ",") {
		if other = strings.TrimSpace(other); other != "" {
			others = append(others, other)
		}
	}
	return seal.New(s.EncryptionKey, others...)
}

// Server is a running reference server.
type Server struct {
	cfg      Config
	db       *database.DB
	vault    *encryption.Vault
	access   *access.Access
	settings *settings.Pages
	handler  http.Handler
	public   listener
	admin    listener // without a server where /reference/ is served by public
	failed   chan error
	// temporary are the tokens of sessions that end with the server.
	temporary []string
	// lifetime ends when Shutdown no longer waits, with stop.
	lifetime context.Context //nolint:containedctx // the server's own
	stop     context.CancelFunc
}

// expiryInterval is how often expired sessions are removed.
const expiryInterval = time.Hour

// closeTime is the part of a shutdown's grace that is kept for the database.
const closeTime = 2 * time.Second

// Start returns a server that accepts requests, or an error that says what to
// change. ctx bounds the start, not the server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), failed: make(chan error, 1)}
	s.lifetime, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	cfg := s.cfg
	if err := cfg.Check(ctx); err != nil {
		return err
	}
	sealer, err := cfg.Secrets.Sealer()
	if err != nil {
		return err
	}
	if cfg.Secrets.AuthSecret == "" || cfg.Secrets.InternalSecret == "" {
		return errors.New("BETTER_AUTH_SECRET and INTERNAL_API_SECRET must not be empty")
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	proxies, err := parseProxies(cfg.TrustedProxies)
	if err != nil {
		return err
	}
	appURL, err := parseAppURL(cmp.Or(cfg.AppURL, s.URL()))
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
	s.vault = encryption.New(s.db, sealer, cfg.Now)
	if err := s.vault.Claim(ctx); err != nil {
		return err
	}
	store, err := backend.New(ctx, s.db, cfg.Now)
	if err != nil {
		return err
	}
	// ENCRYPTION_KEY is never weak, as BETTER_AUTH_SECRET may be.
	markKey, err := hkdf.Key(sha256.New, []byte(cfg.Secrets.EncryptionKey), nil, "byok-server known passwords", sha256.Size)
	if err != nil {
		return err
	}
	s.access, err = access.New(ctx, access.Config{
		DB: s.db, Secret: cfg.Secrets.AuthSecret, MarkKey: markKey, Now: cfg.Now, Random: cfg.Random, PasswordCost: cfg.PasswordCost,
	})
	if err != nil {
		return err
	}
	if err := s.endOrphans(ctx); err != nil {
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
		Access: s.access, DB: s.db, Store: settings.Watched(store, activity), Single: singlekeys.New(s.db, cfg.Now), Sealer: sealer, MaySeal: s.vault.MaySeal,
		Rotation: rotation.New(), Activity: activity, Ping: s.ping, Lifetime: s.lifetime,
		AppURL: appURL, TrustedProxies: proxies, DisableSignUp: cfg.DisableSignUp, InternalSecret: cfg.Secrets.InternalSecret, Hosted: cfg.Hosted,
		RateLimit: !cfg.Development, DisableAuth: cfg.DisableAuth,
		Logger: cfg.Logger, Audit: cfg.Audit, Now: cfg.Now, Random: cfg.Random,
	})
	var public http.Handler = routes
	if s.admin.net != nil {
		public = routes.Without(api.ReferencePrefix)
	}
	if s.settings, err = settings.New(routes, public); err != nil {
		return err
	}
	s.handler = s.settings
	s.serve(routes)
	if !s.db.IsAdopted() { // Sim looks after its own sessions
		go s.removeExpired()
	}
	return nil
}

// ping reports whether the server can do its work: the database responds, and is
// still encrypted with the server's key.
func (s *Server) ping(ctx context.Context) error {
	if err := s.db.Ping(ctx); err != nil {
		return err
	}
	err := s.vault.Check(ctx)
	if errors.Is(err, encryption.ErrWrongKey) || errors.Is(err, encryption.ErrRetired) {
		err = fmt.Errorf("%w: %w", api.ErrEncryptionKey, err)
	}
	return err
}

// removeExpired removes expired sessions now and then, until the server ends.
func (s *Server) removeExpired() {
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	for {
		removed, err := s.access.RemoveExpired(s.lifetime)
		switch {
		case s.lifetime.Err() != nil:
			return
		case err != nil:
			s.cfg.Logger.Warn("expired sessions were not removed", "error", err)
		case removed > 0:
			s.cfg.Logger.Info("removed expired sessions", "sessions", removed)
		}
		select {
		case <-tick.C:
		case <-s.lifetime.Done():
			return
		}
	}
}

func (cfg Config) withDefaults() Config {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Audit == nil {
		cfg.Audit = cfg.Logger
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	return cfg
}

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
	return s.mintSession(ctx, email, "byok-server")
}

func (s *Server) mintSession(ctx context.Context, email, agent string) (string, error) {
	user, err := s.access.FindUser(ctx, email)
	if err == nil && user.Banned {
		err = errors.New("is disabled")
	}
	if err != nil {
		return "", fmt.Errorf("user %s: %w", email, err)
	}
	in, err := s.access.StartSession(ctx, user, access.SessionLifetime, "", agent)
	if err != nil {
		return "", err
	}
	return s.access.SignCookie(in.Session.Token), nil
}

// MintTemporarySession is MintSession, but for a session that ends with the server:
// Shutdown ends it, or the next start on this host after a process that was killed.
func (s *Server) MintTemporarySession(ctx context.Context, email string) (string, error) {
	cookie, err := s.mintSession(ctx, email, temporaryAgent(os.Getpid()))
	if err != nil {
		return "", err
	}
	if token, ok := s.access.OpenCookie(access.ParseCookies([]string{"c=" + cookie})["c"]); ok {
		s.temporary = append(s.temporary, token)
	}
	return cookie, nil
}

// Shutdown stops accepting, lets the requests that are under way end, ends
// temporary sessions and closes the database. It returns when ctx ends, at the
// latest: shortly before, it ends the statements that still run, and it does not
// wait for a database that does not let go.
func (s *Server) Shutdown(ctx context.Context) error {
	closing := closeTime
	drain, cancel := context.WithCancel(ctx)
	defer cancel()
	if end, ok := ctx.Deadline(); ok {
		closing = min(closing, time.Until(end)/4)
		drain, cancel = context.WithDeadline(ctx, end.Add(-closing))
		defer cancel()
	}
	err := errors.Join(s.public.shutdown(drain), s.admin.shutdown(drain))
	s.stop()
	late := time.NewTimer(closing)
	defer late.Stop()
	closed := make(chan error, 1)
	go func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing/2)
		defer cancel()
		var failed error
		for _, token := range s.temporary {
			failed = errors.Join(failed, s.access.EndSession(ending, token))
		}
		closed <- errors.Join(failed, s.db.Close())
	}()
	select {
	case failed := <-closed:
		return errors.Join(err, failed)
	case <-late.C:
		return errors.Join(err, errors.New("the database did not close in time"))
	}
}

// release undoes a start that failed.
func (s *Server) release() {
	s.stop()
	s.public.close()
	s.admin.close()
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
