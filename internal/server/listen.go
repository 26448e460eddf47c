package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/api"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
)

// Limits against clients that send slowly or too much.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = time.Minute
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// Check reports what is wrong with a configuration that can be told before
// anything is bound or written. The secrets are not looked at.
func (cfg Config) Check(ctx context.Context) error {
	if err := database.Check(cfg.Database); err != nil {
		return err
	}
	for _, address := range []string{cfg.Listen, cfg.AdminListen} {
		if err := checkAddress(ctx, address); err != nil {
			return err
		}
	}
	if cfg.AdminListen != "" && cfg.AdminListen == cfg.Listen && !hasFreePort(cfg.Listen) {
		return fmt.Errorf("the admin address %s is the one of the API: give it another port", cfg.AdminListen)
	}
	if cfg.AppURL != "" {
		if _, err := parseAppURL(cfg.AppURL); err != nil {
			return err
		}
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return errors.New("TLS needs both a certificate and its key (--tls-cert and --tls-key)")
	}
	if cfg.TLSCert != "" {
		if _, err := newCertificate(cfg.TLSCert, cfg.TLSKey); err != nil {
			return err
		}
	}
	if _, err := parseProxies(cfg.TrustedProxies); err != nil {
		return err
	}
	if cfg.Bootstrap != nil {
		if err := cfg.Bootstrap.check(); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	return nil
}

func checkAddress(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w; an address is HOST:PORT, such as 127.0.0.1:8080", address, err)
	}
	return nil
}

func hasFreePort(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	n, err := strconv.Atoi(port)
	return err == nil && n == 0
}

func parseAppURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("app URL %q (--app-url) must be http://HOST[:PORT] or https://HOST[:PORT]", text)
	}
	return u, nil
}

func parseProxies(texts []string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, text := range texts {
		text = strings.TrimSpace(text)
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var address netip.Addr
			if address, err = netip.ParseAddr(text); err == nil {
				address = address.Unmap()
				prefix, err = address.Prefix(address.BitLen())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q (--trusted-proxies) must be an IP address or a CIDR prefix, such as 10.0.0.0/8", text)
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}

// listener is an address and the HTTP server on it.
type listener struct {
	net  net.Listener
	http *http.Server
}

func (l *listener) close() {
	if l.net != nil {
		_ = l.net.Close()
	}
}

func (l *listener) shutdown(ctx context.Context) error {
	if l.http == nil {
		return nil
	}
	if err := l.http.Shutdown(ctx); err != nil {
		if ctx.Err() != nil { // not the context's own error, which a database has, too
			err = errors.New("some requests did not end in time and were cut off")
		}
		return errors.Join(err, l.http.Close())
	}
	return nil
}

// listen binds the addresses.
func (s *Server) listen(ctx context.Context) error {
	for _, l := range []struct {
		into    *listener
		address string
	}{{&s.public, s.cfg.Listen}, {&s.admin, s.cfg.AdminListen}} {
		if l.address == "" {
			continue
		}
		var err error
		if l.into.net, err = new(net.ListenConfig).Listen(ctx, "tcp", l.address); err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("listen on %s: another program uses this address. Stop it, or choose another address; port 0 picks a free port: %w", l.address, err)
			}
			return fmt.Errorf("listen on %s: %w", l.address, err)
		}
		if s.cfg.TLSCert != "" {
			certificate, err := newCertificate(s.cfg.TLSCert, s.cfg.TLSKey)
			if err != nil {
				return err
			}
			l.into.net = tls.NewListener(l.into.net, &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate.get(s.cfg.Logger), nil },
			})
		}
	}
	return nil
}

// serve starts to respond on every address.
func (s *Server) serve(a *api.API) {
	s.serveOn(&s.public, s.settings)
	if s.admin.net != nil {
		s.serveOn(&s.admin, a.Only(api.ReferencePrefix))
	}
}

func (s *Server) serveOn(l *listener, handler http.Handler) {
	if s.cfg.Middleware != nil {
		handler = s.cfg.Middleware(handler)
	}
	l.http = &http.Server{
		Handler:           handler,
		BaseContext:       func(net.Listener) context.Context { return s.lifetime },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      2 * requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
		// OPTIONS * is handled like every other path.
		DisableGeneralOptionsHandler: true,
	}
	l.http.RegisterOnShutdown(s.settings.EndStreams)
	go func() {
		if err := l.http.Serve(l.net); !errors.Is(err, http.ErrServerClosed) {
			select {
			case s.failed <- err:
			default: // the other address has failed before
			}
		}
	}()
}

// URL is where the server listens, http://HOST:PORT or https://HOST:PORT.
func (s *Server) URL() string { return s.urlOf(s.public) }

// AdminURL is where /reference/ is served.
func (s *Server) AdminURL() string {
	if s.admin.net == nil {
		return s.URL()
	}
	return s.urlOf(s.admin)
}

func (s *Server) urlOf(l listener) string {
	scheme := "http://"
	if s.cfg.TLSCert != "" {
		scheme = "https://"
	}
	return scheme + l.net.Addr().String()
}

// certificate is a TLS certificate that is read again when its file changes, so
// that a renewed one needs no restart.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time // of certFile, when current was read
	checked time.Time
}

// certificateAge is how long a certificate is used without a look at its file.
const certificateAge = 10 * time.Second

func newCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) read() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current, c.changed, c.checked = &pair, info.ModTime(), time.Now()
	return nil
}

// get returns the certificate. Where a new one cannot be read, the old one
// stays in use.
func (c *certificate) get(logger *slog.Logger) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < certificateAge {
		return c.current
	}
	c.checked = time.Now()
	if info, err := os.Stat(c.certFile); err != nil || !info.ModTime().Equal(c.changed) {
		if err := c.read(); err != nil {
			logger.Error("the TLS certificate cannot be read again; the old one stays in use", "error", err)
		} else {
			logger.Info("read the renewed TLS certificate", "file", c.certFile)
		}
	}
	return c.current
}
