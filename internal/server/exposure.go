package server

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// minSecretLength is the fewest characters of a secret that nobody guesses.
const minSecretLength = 32

// minDistinct is the fewest different characters of such a secret: of 64 random
// hex digits practically all have more.
const minDistinct = 8

// Warnings says in what way a configuration exposes keys, sessions or secrets
// more than it needs to, in words for the operator.
func (cfg Config) Warnings() []string {
	var found []string
	warn := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	beyond := ""
	for _, address := range []string{cfg.Listen, cfg.AdminListen} {
		if address != "" && !isLoopback(address) {
			beyond = address
			break
		}
	}
	if cfg.DisableAuth && beyond != "" {
		warn("--disable-auth on %s: anyone who can reach this address can add, replace and delete keys without signing in", beyond)
	}
	if beyond != "" && cfg.TLSCert == "" && !strings.HasPrefix(cfg.AppURL, "https://") {
		warn("passwords, sessions and API keys travel unencrypted to %s: set --tls-cert and --tls-key, "+
			"or listen on loopback behind a proxy that speaks TLS and set --app-url https://...", beyond)
	}
	if cfg.AdminListen == "" && !isLoopback(cfg.Listen) {
		warn("/reference/resolve, which hands out API keys, can be reached on %s: give it an address of its own with --admin-listen", cfg.Listen)
	}
	for _, secret := range []struct{ name, value string }{
		{EncryptionKeyVariable, cfg.Secrets.EncryptionKey},
		{AuthSecretVariable, cfg.Secrets.AuthSecret},
		{InternalSecretVariable, cfg.Secrets.InternalSecret},
	} {
		switch {
		case strings.Trim(secret.value, "0") == "":
			warn("%s consists of zeros only and can be guessed (openssl rand -hex 32 makes a good one)", secret.name)
		case len(secret.value) < minSecretLength:
			warn("%s has %d characters, which can be guessed: use at least %d (openssl rand -hex 32 makes a good one)", secret.name, len(secret.value), minSecretLength)
		case distinct(secret.value) < minDistinct:
			warn("%s consists of %d different characters, which can be guessed (openssl rand -hex 32 makes a good one)", secret.name, distinct(secret.value))
		}
	}
	return found
}

func distinct(text string) int {
	seen := map[rune]bool{}
	for _, r := range text {
		seen[r] = true
	}
	return len(seen)
}

// isLoopback reports whether an address can be reached from this machine only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost"
}

// FileWarnings says which files that hold secrets every user of the machine can
// read or change. An empty path, and a file that does not exist, is none.
func FileWarnings(paths ...string) []string {
	var found []string
	for _, path := range paths {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
			found = append(found, fmt.Sprintf("every user of this machine can read or change %s (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path))
		}
	}
	return found
}
