package client

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func validConfig() Config {
	return Config{Endpoint: "https://sim.example.com", SessionToken: signedToken}
}

func TestConfigProblems(t *testing.T) {
	t.Parallel()
	good := testCertPEM(t)
	for name, tc := range map[string]struct {
		edit  func(*Config)
		field Field
		want  string
	}{
		"endpoint missing":        {func(c *Config) { c.Endpoint = "" }, FieldEndpoint, "is missing"},
		"endpoint without scheme": {func(c *Config) { c.Endpoint = "sim.example.com" }, FieldEndpoint, "absolute http or https URL"},
		"endpoint host and port":  {func(c *Config) { c.Endpoint = "localhost:3000" }, FieldEndpoint, "absolute http or https URL"},
		"endpoint ftp":            {func(c *Config) { c.Endpoint = "ftp://x" }, FieldEndpoint, "absolute http or https URL"},
		"endpoint without host":   {func(c *Config) { c.Endpoint = "https:///api" }, FieldEndpoint, "has no host"},
		"endpoint with a query":   {func(c *Config) { c.Endpoint = "https://x/?a=1" }, FieldEndpoint, "query or a fragment"},
		"endpoint with a ?":       {func(c *Config) { c.Endpoint = "https://x/?" }, FieldEndpoint, "query or a fragment"},
		"endpoint with fragment":  {func(c *Config) { c.Endpoint = "https://x/#a" }, FieldEndpoint, "query or a fragment"},
		"endpoint with a #":       {func(c *Config) { c.Endpoint = "https://x/#" }, FieldEndpoint, "query or a fragment"},
		"endpoint with a user":    {func(c *Config) { c.Endpoint = "https://u:" + testPassword + "@x" }, FieldEndpoint, "user name or password"},
		"endpoint unparsable":     {func(c *Config) { c.Endpoint = "https://u:" + testPassword + "@x:port" }, FieldEndpoint, "not a valid URL"},
		"endpoint with dots":      {func(c *Config) { c.Endpoint = "https://x/a/../b" }, FieldEndpoint, ". or .."},
		"no credentials":          {func(c *Config) { c.SessionToken = "" }, FieldSessionToken, "Set either"},
		"both credentials":        {func(c *Config) { c.Email, c.Password = "a@b", testPassword }, FieldSessionToken, "not both"},
		"no password":             {func(c *Config) { c.SessionToken, c.Email = "", "a@b" }, FieldPassword, "needs the password"},
		"no email":                {func(c *Config) { c.SessionToken, c.Password = "", testPassword }, FieldEmail, "needs the email"},
		"token with line break":   {func(c *Config) { c.SessionToken = "a\nb" }, FieldSessionToken, "control character"},
		"token cut in an escape":  {func(c *Config) { c.SessionToken = "a.b%2" }, FieldSessionToken, "cut off"},
		"header Cookie":           {func(c *Config) { c.Headers = map[string]string{"cookie": "a=b"} }, FieldHeaders, "Cookie is reserved"},
		"header Host":             {func(c *Config) { c.Headers = map[string]string{"HOST": "a"} }, FieldHeaders, "Host is reserved"},
		"header Content-Length":   {func(c *Config) { c.Headers = map[string]string{"Content-Length": "1"} }, FieldHeaders, "reserved for the provider"},
		"header Origin":           {func(c *Config) { c.Headers = map[string]string{"Origin": "x"} }, FieldHeaders, "reserved for the provider"},
		"header name":             {func(c *Config) { c.Headers = map[string]string{"a b": "x"} }, FieldHeaders, "not a valid header name"},
		"header name empty":       {func(c *Config) { c.Headers = map[string]string{"": "x"} }, FieldHeaders, "not a valid header name"},
		"header value":            {func(c *Config) { c.Headers = map[string]string{"X-A": "x\r\nCookie: y"} }, FieldHeaders, "control character"},
		"header twice":            {func(c *Config) { c.Headers = map[string]string{"x-a": "1", "X-A": "2"} }, FieldHeaders, "set twice"},
		"CA is a path":            {func(c *Config) { c.CACertPEM = "/etc/ssl/ca.pem" }, FieldCACertPEM, "no PEM certificate"},
		"CA is a key":             {func(c *Config) { c.CACertPEM = pemBlock("PRIVATE KEY", "x") }, FieldCACertPEM, "PEM block 1 is a PRIVATE KEY"},
		"CA is garbage":           {func(c *Config) { c.CACertPEM = pemBlock("CERTIFICATE", "x") }, FieldCACertPEM, "PEM block 1 is not a valid certificate"},
		"CA cut off":              {func(c *Config) { c.CACertPEM = good + good[:len(good)/2] }, FieldCACertPEM, "text after certificate 1"},
		"timeout negative":        {func(c *Config) { c.RequestTimeout = -1 }, FieldRequestTimeout, "must be positive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := validConfig()
			tc.edit(&cfg)
			_, err := New(cfg)
			var wrong *ConfigError
			if !errors.As(err, &wrong) || len(wrong.Problems) != 1 {
				t.Fatalf("got %v, want one problem", err)
			}
			if p := wrong.Problems[0]; p.Field != tc.field || !strings.Contains(p.Message, tc.want) {
				t.Errorf("%+v, want %s: %s", p, tc.field, tc.want)
			}
			hunt(t, "a config error", err.Error())
		})
	}
	_, err := New(Config{})
	var wrong *ConfigError
	if !errors.As(err, &wrong) || len(wrong.Problems) != 2 {
		t.Errorf("an empty config: %v", err)
	}
}

func TestConfigWarnings(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]int{
		"http://sim.example.com": 1, "http://8.8.8.8:3000": 1, "http://localhost.example.com": 1, "http://[2001:db8::1]": 1,
		"http://10.0.0.1:3000": 0, "http://192.168.1.9": 0, "http://172.31.0.1": 0, "http://169.254.1.1": 0, "http://[fd00::1]": 0, "http://sim": 0, "http://sim:3000": 0,
		"https://sim.example.com": 0, "http://localhost:3000": 0, "http://127.9.9.9": 0, "http://[::1]:3000/x": 0, "http://sim.localhost": 0,
	} {
		cfg := validConfig()
		cfg.Endpoint = endpoint
		if problems, warnings := cfg.Check(); len(problems) > 0 || len(warnings) != want {
			t.Errorf("%s: %v, %v", endpoint, problems, warnings)
		}
	}
	cfg := validConfig()
	cfg.SessionToken = "abcdefghijklmnopqrstuvwxyz012345"
	if _, warnings := cfg.Check(); len(warnings) != 1 || warnings[0].Field != FieldSessionToken || !strings.Contains(warnings[0].Message, "no signature") {
		t.Errorf("a bare token: %v", warnings)
	}
}

func TestEndpointForms(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://sim.example.com": "https://sim.example.com", "https://sim.example.com///": "https://sim.example.com",
		"HTTPS://sim.example.com:8443/a//b/": "https://sim.example.com:8443/a/b", "http://[::1]:1/": "http://[::1]:1",
		"https://x/a%2Fb/": "https://x/a%2Fb",
	} {
		cfg := validConfig()
		cfg.Endpoint = endpoint
		c, err := New(cfg)
		if err != nil || c.base != want {
			t.Errorf("%s: %v, base %+v", endpoint, err, c)
		}
	}
}

// TestTLS: an unknown authority is a clear error, and ca_cert_pem or insecure
// gets over it.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(newModel())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for name, tc := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"unknown authority": {func(*Config) {}, "unknown authority"},
		"known authority":   {func(c *Config) { c.CACertPEM = ca }, ""},
		"insecure":          {func(c *Config) { c.Insecure = true }, ""},
		"plain http":        {func(c *Config) { c.Endpoint = strings.Replace(c.Endpoint, "https", "http", 1) }, "may have to begin with https://"},
		"other host name": {func(c *Config) {
			c.Endpoint, c.CACertPEM = strings.Replace(c.Endpoint, "127.0.0.1", "localhost", 1), ca
		}, "another host name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Endpoint: server.URL, SessionToken: signedToken, MaxRetries: -1}
			tc.edit(&cfg)
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.List(t.Context(), w1)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func pemBlock(kind, content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(content)}))
}

func testCertPEM(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlock("CERTIFICATE", string(der))
}
