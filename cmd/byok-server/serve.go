package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

// drainTimeout is how long requests that are under way may take at the end.
const drainTimeout = 15 * time.Second

// serveOptions are the flags of serve.
type serveOptions struct {
	cfg                 server.Config
	bootstrap           string
	envFile             string
	keepSession         bool
	logFormat, logLevel string
}

func (e environment) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Runs the server until it gets SIGINT or SIGTERM; a second one ends it at once. " +
			"SIGINT does nothing where the server was started with it ignored, as by a shell script in the background. " +
			"Requests that are under way at the end get " + drainTimeout.String() + ".\n\n" + environmentHelp,
		Example: `  # For tests: everything in memory, and what a client needs in server.env
  byok-server serve --database sqlite::memory: --bootstrap bootstrap.json --env-file server.env

  # In production: TLS, PostgreSQL, and metrics, health and the rotation for this machine only
  byok-server serve --listen :443 --tls-cert cert.pem --tls-key key.pem --app-url https://byok.example.com \
    --admin-listen 127.0.0.1:9090 --database postgres://byok@db.example.com/byok

  # Behind a proxy that speaks TLS
  byok-server serve --listen 127.0.0.1:8787 --app-url https://byok.example.com --log-format json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.serve(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	cmd.PersistentFlags().SortFlags, flags.SortFlags = false, false
	database := addDatabaseFlag(cmd)
	cmd.PreRun = func(*cobra.Command, []string) { o.cfg.Database = *database }
	flags.StringVar(&o.cfg.Listen, "listen", "127.0.0.1:8787", "`ADDRESS` to listen on; port 0 picks a free one")
	flags.StringVar(&o.cfg.AdminListen, "admin-listen", "", "`ADDRESS` that serves /reference/ (health, metrics, the rotation) instead of --listen")
	flags.StringVar(&o.cfg.TLSCert, "tls-cert", "", "`FILE` with the certificate chain in PEM; read again when it changes")
	flags.StringVar(&o.cfg.TLSKey, "tls-key", "", "`FILE` with the certificate's private key in PEM")
	flags.StringVar(&o.cfg.AppURL, "app-url", "", "public `URL`, where it is not the one listened on; https names the cookies __Secure-")
	flags.StringVar(&o.bootstrap, "bootstrap", "", "JSON `FILE` of users, organizations and workspaces, applied at each start (default the content of BYOK_BOOTSTRAP)")
	flags.StringVar(&o.envFile, "env-file", "", "`FILE` to write once ready, for a shell to source: BYOK_ENDPOINT, BYOK_WORKSPACE_ID, BYOK_SESSION_TOKEN of the first workspace's owner")
	flags.BoolVar(&o.keepSession, "env-file-keep-session", false, "let the session of --env-file outlive the server")
	flags.BoolVar(&o.cfg.Hosted, "hosted", false, "let organizations hold keys that their workspaces inherit")
	flags.StringSliceVar(&o.cfg.TrustedProxies, "trusted-proxies", nil, "comma-separated `ADDRESSES` or prefixes of the proxies in front, whose X-Forwarded-For is believed (default those on this machine)")
	flags.BoolVar(&o.cfg.DisableSignUp, "disable-sign-up", false, "refuse new users; those of --bootstrap and of user add are added all the same")
	flags.BoolVar(&o.cfg.Development, "development", false, "no rate limit on sign-in and sign-up")
	flags.BoolVar(&o.cfg.DisableAuth, "disable-auth", e.getenv("DISABLE_AUTH") == "true", "every request acts as the anonymous user, as DISABLE_AUTH=true does; never where others can reach the server")
	flags.StringVar(&o.logFormat, "log-format", "text", "`FORMAT`: text or json")
	flags.StringVar(&o.logLevel, "log-level", "info", "least important `LEVEL` that is logged: debug, info, warn or error; the audit log is always written")
	return cmd
}

func (e environment) serve(ctx context.Context, o serveOptions) error {
	if err := o.check(ctx, e); err != nil {
		return err
	}
	cfg, logger := o.cfg, o.cfg.Logger
	// From here on things are made: the secrets, the database.
	secrets, note, err := server.LoadSecrets(ctx, cfg.Database, e.getenv)
	if err != nil {
		return err
	}
	if note != "" {
		logger.Info(note)
	}
	cfg.Secrets = secrets
	collectLess(os.Getenv)
	s, err := server.Start(ctx, cfg)
	if err != nil {
		return err
	}
	o.warn(cfg)
	logger.Info("listening", "url", s.URL(), "admin_url", s.AdminURL(), "version", version)
	if o.envFile != "" {
		err = o.writeEnvironment(ctx, s)
	}
	if err == nil {
		select {
		case <-ctx.Done():
			logger.Info("stopping: waiting for the requests under way", "at_most", drainTimeout)
		case err = <-s.Failed():
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return errors.Join(err, s.Shutdown(drain))
}

// memoryLimit is how much memory the process may use before it collects garbage
// more often again. It is far above what the caches of lists can hold: a limit
// below what is in use would have the process collect all the time.
const memoryLimit = 256 << 20

// collectLess lets the process collect garbage less often below memoryLimit. By
// default it would after every few hundred requests, since a server holds a few
// megabytes only, and would spend a fifth of its processor time on that. GOGC and
// GOMEMLIMIT override both.
func collectLess(getenv func(string) string) {
	if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(memoryLimit)
	}
}

// check completes the configuration and reports what is wrong with the flags,
// before anything is bound or written.
func (o *serveOptions) check(ctx context.Context, e environment) error {
	level, err := parseLevel(o.logLevel)
	if err != nil {
		return err
	}
	if o.cfg.Logger, err = newLogger(o.logFormat, level, e.stderr); err != nil {
		return err
	}
	if o.cfg.Audit, err = newLogger(o.logFormat, min(level, slog.LevelInfo), e.stderr); err != nil {
		return err
	}
	if o.cfg.Bootstrap, err = readBootstrap(o.bootstrap, e.getenv("BYOK_BOOTSTRAP")); err != nil {
		return err
	}
	if o.cfg.Bootstrap != nil && isNew(o.cfg.Database) {
		if err := o.cfg.Bootstrap.CheckComplete(); err != nil {
			return fmt.Errorf("--bootstrap: %w", err)
		}
	}
	if o.envFile != "" {
		if o.cfg.Bootstrap == nil || len(o.cfg.Bootstrap.Workspaces) == 0 {
			return misused("--env-file needs a workspace to write about: give --bootstrap FILE (or BYOK_BOOTSTRAP) with at least one in workspaces")
		}
		owner := o.cfg.Bootstrap.Workspaces[0].Owner
		for _, user := range o.cfg.Bootstrap.Users {
			if strings.EqualFold(user.Email, owner) && user.IsDisabled() {
				return fmt.Errorf("--env-file: user %s, the owner of the first workspace, is disabled: a disabled user has no session", owner)
			}
		}
		if err := o.checkEnvFile(); err != nil {
			return fmt.Errorf("--env-file %s: %w", o.envFile, err)
		}
	}
	return o.cfg.Check(ctx)
}

// checkEnvFile refuses a file that serve would destroy: elsewhere, options of this
// name read a file.
func (o *serveOptions) checkEnvFile() error {
	if info, err := os.Stat(filepath.Dir(o.envFile)); err != nil || !info.IsDir() {
		return fmt.Errorf("the folder %s does not exist; create it first", filepath.Dir(o.envFile))
	}
	path, err := filepath.Abs(o.envFile)
	if err != nil {
		return err
	}
	for _, other := range o.files() {
		if abs, err := filepath.Abs(other); other != "" && err == nil && abs == path {
			return errors.New("serve writes this file, and another option names the same one; choose another")
		}
	}
	return server.CheckEnvFile(o.envFile)
}

// files are those that the options name, read or made by serve.
func (o *serveOptions) files() []string {
	return append(o.privateFiles(), o.cfg.TLSCert)
}

// privateFiles are the files that others must not read.
func (o *serveOptions) privateFiles() []string {
	files := []string{o.bootstrap, o.cfg.TLSKey, server.SecretsFile(o.cfg.Database)}
	if path, isFile := strings.CutPrefix(o.cfg.Database, "sqlite:"); isFile {
		files = append(files, path)
	}
	return files
}

// warn logs what exposes more than it needs to.
func (o serveOptions) warn(cfg server.Config) {
	for _, warning := range append(cfg.Warnings(), server.FileWarnings(o.privateFiles()...)...) {
		cfg.Logger.Warn(warning)
	}
}

func parseLevel(text string) (slog.Level, error) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(level.String(), text) {
			return level, nil
		}
	}
	return 0, misused("--log-level %s: must be debug, info, warn or error", text)
}

func newLogger(format string, level slog.Level, to io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(to, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, options)), nil
	}
	return nil, misused("--log-format %s: must be text or json", format)
}

// readBootstrap reads the document of a file, or the one that the environment
// holds: a pipeline cannot give a file to a service container.
func readBootstrap(path, document string) (*server.Bootstrap, error) {
	switch {
	case path != "":
	case document == "":
		return nil, nil //nolint:nilnil // no document is asked for
	default:
		doc, err := server.ReadBootstrap(strings.NewReader(document))
		if err != nil {
			return nil, fmt.Errorf("BYOK_BOOTSTRAP: %w", err)
		}
		return doc, nil
	}
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("--bootstrap: %w", err)
	}
	defer file.Close()
	doc, err := server.ReadBootstrap(file)
	if err != nil {
		return nil, fmt.Errorf("--bootstrap %s: %w", path, err)
	}
	return doc, nil
}

func (o serveOptions) writeEnvironment(ctx context.Context, s *server.Server) error {
	w, path := o.cfg.Bootstrap.Workspaces[0], o.envFile
	mint := s.MintTemporarySession
	if o.keepSession {
		mint = s.MintSession
	}
	endpoint := reachable(s.URL())
	if o.cfg.TLSCert != "" && o.cfg.AppURL != "" { // the certificate is for that host
		endpoint = o.cfg.AppURL
	}
	token, err := mint(ctx, w.Owner)
	if err == nil {
		err = server.WriteEnvFile(path, server.Environment{Endpoint: endpoint, WorkspaceID: w.ID, SessionToken: token})
	}
	if err != nil {
		return fmt.Errorf("--env-file: %w", err)
	}
	return nil
}

// reachable is a URL that a client on this machine can use: a server that
// listens on all addresses is reached on loopback.
func reachable(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	return u.String()
}
