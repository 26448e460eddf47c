package client

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config is the configuration of a Client. Endpoint and either SessionToken or
// Email and Password are needed, everything else has a default.
type Config struct {
	// Endpoint is the base URL of Sim, such as https://sim.example.com. A
	// path is kept: the API is then expected below it.
	Endpoint string

	// SessionToken is the value of the session cookie, percent-encoded or
	// not; the cookie's name in front of it and double quotes are tolerated.
	SessionToken string
	// Email and Password sign in once per Client, when the first request
	// needs it, and once more when the session has been refused.
	Email, Password string

	// Headers go out with every request, for a gateway in front of Sim.
	// Those that the client itself depends on are refused.
	Headers map[string]string
	// CACertPEM are certificates to trust beside those of the system.
	CACertPEM string
	// Insecure switches the verification of the server's certificate off.
	Insecure bool

	// RequestTimeout bounds one attempt of one request, body included. 0
	// means the default, 30 s.
	RequestTimeout time.Duration
	// MaxRetries is how often a request is repeated after its first attempt.
	// 0 means never, a negative number the default, 4.
	MaxRetries int
	// RetryWaitMin is the longest wait before the first retry; it doubles
	// with each one after that. 0 means the default, 500 ms.
	RetryWaitMin time.Duration
	// RetryWaitMax is the longest wait between two attempts, whatever a
	// Retry-After header asks for. 0 means the default, 30 s.
	RetryWaitMax time.Duration
	// SettleTime is how long a server may still be storing a key after the
	// connection of its add broke: it is sent again only when a list taken
	// later than that does not show it. 0 means the default, 6 s: the server
	// waits 5 s for the lock of a pool. WIRE.md section 5.
	SettleTime time.Duration

	// UserAgent is sent as it is.
	UserAgent string
}

const (
	defaultRequestTimeout = 30 * time.Second
	defaultMaxRetries     = 4
	defaultRetryWaitMin   = 500 * time.Millisecond
	defaultRetryWaitMax   = 30 * time.Second
	defaultSettleTime     = 6 * time.Second
)

// Field names the part of a Config that a FieldProblem is about. The values
// are the attribute names of the provider configuration.
type Field string

// The fields of a Config that can be wrong.
const (
	FieldEndpoint       Field = "endpoint"
	FieldSessionToken   Field = "session_token"
	FieldEmail          Field = "email"
	FieldPassword       Field = "password"
	FieldHeaders        Field = "headers"
	FieldCACertPEM      Field = "ca_cert_pem"
	FieldRequestTimeout Field = "request_timeout"
)

// FieldProblem is one thing wrong, or worth a warning, about one field.
type FieldProblem struct {
	Field Field
	// Summary is the title of a warning; empty for a problem.
	Summary string
	// Key is the header that a problem of FieldHeaders is about, or empty.
	Key string
	// Message is one or two sentences; it never holds a secret.
	Message string
}

// ConfigError is what New returns: every problem of a Config at once.
type ConfigError struct{ Problems []FieldProblem }

func (e *ConfigError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = fmt.Sprintf("%s: %s", p.Field, p.Message)
	}
	return "invalid client configuration: " + strings.Join(parts, "; ")
}

// Check returns what keeps c from working, and what works but deserves a
// warning. It does no I/O.
func (c Config) Check() (problems, warnings []FieldProblem) {
	endpoint, problem := parseEndpoint(c.Endpoint)
	switch {
	case problem != "":
		problems = append(problems, FieldProblem{Field: FieldEndpoint, Message: problem})
	case endpoint.Scheme == "http" && !isInternal(endpoint.Hostname()):
		warnings = append(warnings, FieldProblem{Field: FieldEndpoint, Summary: "Unencrypted endpoint",
			Message: "The endpoint uses http: API keys and the session are sent unencrypted over the network. Use https."})
	}

	p, w := c.checkCredentials()
	problems, warnings = append(problems, p...), append(warnings, w...)
	problems = append(problems, checkHeaders(c.Headers)...)
	if _, problem := parseCACerts(c.CACertPEM); problem != "" {
		problems = append(problems, FieldProblem{Field: FieldCACertPEM, Message: problem})
	}
	if c.RequestTimeout < 0 {
		problems = append(problems, FieldProblem{Field: FieldRequestTimeout, Message: "The request timeout must be positive."})
	}
	return problems, warnings
}

func (c Config) checkCredentials() (problems, warnings []FieldProblem) {
	switch {
	case c.SessionToken != "":
		if c.Email != "" || c.Password != "" {
			problems = append(problems, FieldProblem{Field: FieldSessionToken,
				Message: "Set either the session token, or email and password, not both."})
		}
		token, problem := normaliseSessionToken(c.SessionToken)
		if problem != "" {
			problems = append(problems, FieldProblem{Field: FieldSessionToken, Message: problem})
		} else if !strings.Contains(token, ".") {
			warnings = append(warnings, FieldProblem{Field: FieldSessionToken, Summary: "Incomplete session token",
				Message: "The session token has no signature, so the server will not accept it. Use the whole value of the cookie " +
					cookieName + ", not the token in the body of a sign-in response."})
		}
	case c.Email == "" && c.Password == "":
		problems = append(problems, FieldProblem{Field: FieldSessionToken,
			Message: "Set either the session token, or email and password."})
	case c.Email == "":
		problems = append(problems, FieldProblem{Field: FieldEmail, Message: "A password needs the email that goes with it."})
	case c.Password == "":
		problems = append(problems, FieldProblem{Field: FieldPassword, Message: "An email needs the password that goes with it."})
	}
	return problems, warnings
}

func (c Config) withDefaults() Config {
	c.RequestTimeout = orDefault(c.RequestTimeout, defaultRequestTimeout)
	c.RetryWaitMin = orDefault(c.RetryWaitMin, defaultRetryWaitMin)
	c.RetryWaitMax = orDefault(c.RetryWaitMax, defaultRetryWaitMax)
	c.SettleTime = orDefault(c.SettleTime, defaultSettleTime)
	if c.MaxRetries < 0 {
		c.MaxRetries = defaultMaxRetries
	}
	return c
}

func orDefault(d, byDefault time.Duration) time.Duration {
	if d <= 0 {
		return byDefault
	}
	return d
}

// parseEndpoint returns the base URL without a trailing slash. The text of an
// endpoint is never repeated in a problem: it may hold a password.
func parseEndpoint(endpoint string) (*url.URL, string) {
	const example = "such as https://sim.example.com."
	if strings.TrimSpace(endpoint) == "" {
		return nil, "The endpoint is missing. Set the base URL of Sim, " + example
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, "The endpoint is not a valid URL. Set the base URL of Sim, " + example
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "The endpoint must be an absolute http or https URL, " + example
	case u.Hostname() == "":
		return nil, "The endpoint has no host. Set the base URL of Sim, " + example
	case u.User != nil:
		return nil, "The endpoint must not contain a user name or password. Sign in with a session token, or with email and password."
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(endpoint, "#"):
		return nil, "The endpoint must not have a query or a fragment. Set the base URL of Sim, " + example
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, "The path of the endpoint must not contain . or .. segments."
		}
	}
	// A doubled or trailing slash would be redirected.
	// WIRE.md section 1.
	segments := strings.FieldsFunc(u.EscapedPath(), func(r rune) bool { return r == '/' })
	base := &url.URL{Scheme: u.Scheme, Host: u.Host}
	return base.JoinPath(segments...), ""
}

// isInternal reports whether a host is this machine, or belongs to a private
// network: a loopback, private or link-local address, or a name without a dot.
func isInternal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost")
}

// normaliseSessionToken returns the decoded value of the session cookie from
// what people paste: percent-encoded or not, quoted, with the cookie's name in
// front, with attributes behind. A signed token has no percent sign, quote or
// semicolon of its own. WIRE.md section 2.
func normaliseSessionToken(pasted string) (token, problem string) {
	token = strings.TrimSpace(pasted)
	if strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", "The session token contains a control character, such as a line break in the middle."
	}
	for _, name := range []string{secureCookieName, cookieName} {
		token = strings.TrimPrefix(token, name+"=")
	}
	token, _, _ = strings.Cut(token, ";")
	token = strings.Trim(strings.TrimSpace(token), `"`)
	for strings.Contains(token, "%") {
		decoded, err := url.PathUnescape(token)
		if err != nil {
			return "", "The session token contains a percent sign that is not part of a percent-encoded character; it may have been cut off."
		}
		token = decoded
	}
	if token == "" {
		return "", "The session token is empty."
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`";,\`, r) }) {
		return "", "The session token contains a character that session tokens do not have. Use the value of the cookie " + cookieName + " alone."
	}
	return token, ""
}

// reservedHeaders belong to the client or to the connection. Cookie, Origin
// and Referer decide over a sign-in (WIRE.md section 2); Accept-Encoding would
// switch transparent decompression off.
var reservedHeaders = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host",
	"Keep-Alive", "Origin", "Proxy-Connection", "Referer", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent",
}

func checkHeaders(headers map[string]string) []FieldProblem {
	var problems []FieldProblem
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		var message string
		switch {
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }):
			message = fmt.Sprintf("%q is not a valid header name.", name)
		case slices.Contains(reservedHeaders, canonical):
			message = fmt.Sprintf("The header %s is reserved for the provider and cannot be set.", canonical)
		case seen[canonical]:
			message = fmt.Sprintf("The header %s is set twice, in different letter case.", canonical)
		case strings.ContainsFunc(headers[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			message = fmt.Sprintf("The value of the header %s contains a control character, such as a line break.", canonical)
		}
		seen[canonical] = true
		if message != "" {
			problems = append(problems, FieldProblem{Field: FieldHeaders, Key: name, Message: message})
		}
	}
	return problems
}

// isTokenRune is RFC 9110's tchar.
func isTokenRune(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func parseCACerts(text string) ([]*x509.Certificate, string) {
	if text == "" {
		return nil, ""
	}
	var certs []*x509.Certificate
	rest := []byte(text)
	for n := 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Sprintf("PEM block %d is a %s, not a CERTIFICATE.", n, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Sprintf("PEM block %d is not a valid certificate.", n)
		}
		certs = append(certs, cert)
	}
	switch {
	case len(certs) == 0:
		return nil, "There is no PEM certificate here. Expected text that begins with -----BEGIN CERTIFICATE-----; to use a file, read it with file()."
	case len(strings.TrimSpace(string(rest))) > 0:
		return nil, fmt.Sprintf("There is text after certificate %d that is not a PEM block; it may have been cut off.", len(certs))
	}
	return certs, ""
}
