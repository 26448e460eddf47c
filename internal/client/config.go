package client

import (
	"time"
)

// Config is what a Client is made of. Endpoint and either SessionToken or
// Email and Password are needed, everything else has a default.
type Config struct {
	// Endpoint is the base URL of Sim, such as https://sim.example.com. A
	// path is kept: the API is then expected below it.
	Endpoint string

	// SessionToken is the value of the session cookie, percent-encoded or not.
	SessionToken string
	// Email and Password sign in once per Client, when the first request
	// needs it, and once more when the session has been refused.
	Email, Password string

	// Headers go out with every request, for a gateway in front of Sim.
	Headers map[string]string
	// CACertPEM are certificates to trust beside those of the system.
	CACertPEM string
	// Insecure switches the verification of the server's certificate off.
	Insecure bool

	// RequestTimeout bounds one attempt of one request, body included.
	// Default 30 s.
	RequestTimeout time.Duration
	// MaxRetries is how often a request is repeated after its first attempt.
	// Negative means the default, 4; 0 means never.
	MaxRetries int
	// UserAgent is sent as it is.
	UserAgent string
}

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
	// Key is the header that a problem of FieldHeaders is about, or empty.
	Key string
	// Message is one or two sentences; it never holds a secret.
	Message string
}

// ConfigError is what New returns: every problem of a Config at once.
type ConfigError struct{ Problems []FieldProblem }

func (e *ConfigError) Error() string { return "invalid client configuration" }

// Check returns what keeps c from working, and what works but deserves a
// warning. It does no I/O.
func (c Config) Check() (problems, warnings []FieldProblem) { return nil, nil }
