// Package byokserver runs byok-server in a process of its own, as users do, and
// talks to it over HTTP. A test that needs no process starts the server in its
// own (package acctest). Only tests and tools import it.
package byokserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfrun"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second

	sessionCookie = "better-auth.session_token"
)

// Build makes byok-server available as dir/byok-server and returns that path.
func Build(dir string) (string, error) {
	bin := filepath.Join(dir, "byok-server")
	if built := tfrun.Built(); built != "" {
		return bin, os.Symlink(filepath.Join(built, "byok-server"), bin)
	}
	out, err := exec.Command("go", "build", "-o", bin, "github.com/terraform-provider-byok/terraform-provider-byok/cmd/byok-server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
}

// Config is what a process is started with. Processes of one Config share its
// database, secrets and bootstrap document.
type Config struct {
	// Binary is the path of byok-server.
	Binary string
	// Dir is the folder for the bootstrap document and the log.
	Dir      string
	Database string
	// Secrets that are empty are left to the server.
	Secrets   server.Secrets
	Bootstrap *server.Bootstrap
	// Flags are more flags of byok-server serve.
	Flags []string
}

// Process is a running byok-server.
type Process struct {
	URL string

	config Config
	cmd    *exec.Cmd
	log    string        // path
	done   chan struct{} // closed when it has ended
	err    error         // how it has ended, to be read after done
}

var listening = regexp.MustCompile(`msg=listening .*?url=(\S+)`)

// Start returns a process that accepts requests. Its caller ends it.
func Start(ctx context.Context, config Config) (*Process, error) {
	document, err := json.Marshal(config.Bootstrap)
	if err != nil {
		return nil, err
	}
	bootstrap := filepath.Join(config.Dir, "bootstrap.json")
	if err := os.WriteFile(bootstrap, document, 0o600); err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(config.Dir, "byok-server-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Process{config: config, log: log.Name(), done: make(chan struct{})}
	// Not bound to ctx, which is about the start alone.
	p.cmd = exec.Command(config.Binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--database", config.Database, "--bootstrap", bootstrap}, config.Flags...)...)
	p.cmd.Env = tfrun.CleanEnv()
	for name, secret := range map[string]string{
		"ENCRYPTION_KEY": config.Secrets.EncryptionKey, "BETTER_AUTH_SECRET": config.Secrets.AuthSecret, "INTERNAL_API_SECRET": config.Secrets.InternalSecret,
	} {
		if secret != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+secret)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if said := listening.FindStringSubmatch(p.Log()); said != nil {
			p.URL = said[1]
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("byok-server does not start: %w\n%s", cmp.Or(p.err, errors.New("it ended")), p.Log())
		case <-ctx.Done():
			p.Kill()
			return nil, fmt.Errorf("byok-server does not get ready: %w\n%s", ctx.Err(), p.Log())
		case <-tick.C:
		}
	}
}

// Log is what the process has logged.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Kill ends the process with SIGKILL, by its ID.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Wait reports whether the process ends by itself within a time.
func (p *Process) Wait(limit time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Stop asks the process to end and returns once it has.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("byok-server: %w", p.err)
		}
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return errors.New("byok-server does not stop; killed it")
	}
}

// SignIn signs a user of the bootstrap document in and returns the value of the
// session cookie.
func (p *Process) SignIn(ctx context.Context, email string) (string, error) {
	for _, user := range p.config.Bootstrap.Users {
		if user.Email == email {
			return SignIn(ctx, p.URL, email, user.Password)
		}
	}
	return "", fmt.Errorf("the bootstrap document has no user %s", email)
}

// SignIn signs in at a server and returns the value of the session cookie.
func SignIn(ctx context.Context, url, email, password string) (string, error) {
	body, err := json.Marshal(map[string]string{"email": email, "password": password})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/auth/sign-in/email", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	for _, cookie := range resp.Cookies() {
		if cookie.Name == sessionCookie {
			return cookie.Value, nil
		}
	}
	return "", fmt.Errorf("sign-in of %s: %s, without a session cookie", email, resp.Status)
}

// Door sends requests to a server without the provider's client.
type Door struct {
	Client *http.Client
	// URL is asked for with each request: a server that is started again has
	// another one.
	URL func() string
	// Session is the value of a session cookie, InternalSecret opens
	// POST /reference/resolve.
	Session, InternalSecret string
}

// Do sends a request and returns the response's status and body; into, unless
// nil, gets the body of a 200 response. The error is that no response arrived.
func (d Door) Do(ctx context.Context, method, path string, body, into any) (status int, text []byte, err error) {
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		payload = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.URL()+path, payload)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", sessionCookie+"="+d.Session)
	req.Header.Set("Authorization", "Bearer "+d.InternalSecret)
	resp, err := d.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, err
	}
	if resp.StatusCode == http.StatusOK && into != nil {
		err = json.Unmarshal(text, into)
	}
	return resp.StatusCode, text, err
}

// Resolve asks for a key as a workflow run would; nil when there is none.
func (d Door) Resolve(ctx context.Context, workspaceID, providerID string) (*Served, error) {
	var key *Served
	status, text, err := d.Do(ctx, http.MethodPost, "/reference/resolve", map[string]string{"workspaceId": workspaceID, "providerId": providerID}, &key)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("resolve: %d %s", status, text)
	}
	return key, err
}

// Served is the response of a resolve.
type Served struct {
	APIKey string `json:"apiKey"`
	Scope  string `json:"scope"`
	KeyID  string `json:"keyId"`
}

// KeysPath is the path of a workspace's keys.
func KeysPath(workspaceID string) string { return "/api/workspaces/" + workspaceID + "/byok-keys" }
