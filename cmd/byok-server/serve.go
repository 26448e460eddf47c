package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

// drainTimeout is how long requests that are under way may take at the end.
const drainTimeout = 15 * time.Second

func (e environment) serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	database := databaseFlag(flags)
	listen := flags.String("listen", "127.0.0.1:8787", "`ADDRESS` to listen on; port 0 picks a free one")
	appURL := flags.String("app-url", "", "public `URL`, where it is not the one listened on; https names the cookies __Secure-")
	bootstrap := flags.String("bootstrap", "", "JSON `FILE` of users, organizations and workspaces, applied at each start")
	envFile := flags.String("env-file", "", "`FILE` to write once ready, for a shell to source: BYOK_ENDPOINT, BYOK_WORKSPACE_ID, BYOK_SESSION_TOKEN of the first workspace's owner")
	hosted := flags.Bool("hosted", false, "let organizations hold keys that their workspaces inherit")
	trustedProxies := flags.String("trusted-proxies", "", "comma-separated `ADDRESSES` or prefixes of the proxies in front, whose X-Forwarded-For is believed (default those on this machine)")
	disableSignUp := flags.Bool("disable-sign-up", false, "refuse new users; those of --bootstrap are added all the same")
	development := flags.Bool("development", false, "no rate limit on sign-in and sign-up")
	disableAuth := flags.Bool("disable-auth", e.getenv("DISABLE_AUTH") == "true", "every request acts as the anonymous user, as DISABLE_AUTH=true does; never where others can reach the server")
	format := flags.String("log-format", "text", "text or json")
	if _, err := e.parse(flags, args); err != nil {
		return err
	}
	logger, err := newLogger(*format, e.stderr)
	if err != nil {
		return e.misused(flags, err.Error())
	}
	doc, err := readBootstrapFile(*bootstrap)
	if err != nil {
		return err
	}
	if *envFile != "" && (doc == nil || len(doc.Workspaces) == 0) {
		return e.misused(flags, "--env-file needs a workspace to write about: give --bootstrap FILE with at least one in workspaces")
	}
	cfg := server.Config{
		Listen: *listen, Database: *database, AppURL: *appURL, Hosted: *hosted, Development: *development, DisableAuth: *disableAuth,
		DisableSignUp: *disableSignUp, Bootstrap: doc, Logger: logger,
	}
	if *trustedProxies != "" {
		cfg.TrustedProxies = strings.Split(*trustedProxies, ",")
	}
	// Before anything is bound or written.
	if err := cfg.Check(ctx); err != nil {
		return err
	}
	if err := checkFolder(*envFile); err != nil {
		return err
	}
	secrets, note, err := server.LoadSecrets(ctx, *database, e.getenv)
	if err != nil {
		return err
	}
	if note != "" {
		logger.Info(note)
	}
	cfg.Secrets = secrets
	s, err := server.Start(ctx, cfg)
	if err != nil {
		return err
	}
	logger.Info("listening", "url", s.URL(), "version", version)
	if *envFile != "" {
		err = writeEnvironment(ctx, s, doc.Workspaces[0], *envFile)
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

// checkFolder reports that --env-file cannot be written where its folder is
// none.
func checkFolder(envFile string) error {
	if envFile == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(envFile)); err != nil || !info.IsDir() {
		return fmt.Errorf("--env-file %s: the folder %s does not exist; create it first", envFile, filepath.Dir(envFile))
	}
	return nil
}

func newLogger(format string, to io.Writer) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(to, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, nil)), nil
	}
	return nil, fmt.Errorf("--log-format %s: must be text or json", format)
}

func readBootstrapFile(path string) (*server.Bootstrap, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no document is asked for
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

func writeEnvironment(ctx context.Context, s *server.Server, w server.BootstrapWorkspace, path string) error {
	token, err := s.MintSession(ctx, w.Owner)
	if err == nil {
		err = server.WriteEnvFile(path, server.Environment{Endpoint: reachable(s.URL()), WorkspaceID: w.ID, SessionToken: token})
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
