//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

// built is the real program, which these tests start. It is built once, without
// the race detector: with it, hashing a password takes ten times as long.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "byok-server-")
	if err != nil {
		return "", err
	}
	builtDir = dir
	path := filepath.Join(dir, "byok-server")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// builtDir is the folder of built; TestMain removes it.
var builtDir string

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	if builtDir != "" {
		_ = os.RemoveAll(builtDir)
	}
	os.Exit(code)
}

// waitAtMost is how long anything may take on a busy machine.
const waitAtMost = 3 * time.Minute

// command returns byok-server with an environment of its own, in a folder of its
// own unless the arguments name files.
func command(t *testing.T, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = t.TempDir(), []string{}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

func call(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	return callWith(t, "", env, args...)
}

// callWith is call with text on standard input.
func callWith(t *testing.T, stdin string, env map[string]string, args ...string) result {
	t.Helper()
	return finish(t, command(t, env, args...), stdin)
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd, stdin string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must is call for a command that has to succeed; it returns its output.
func must(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	got := call(t, env, args...)
	if got.code != 0 {
		t.Fatalf("%q: %+v", args, got)
	}
	return got.stdout
}

// lockedBuffer can be read while a program writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// program is a running byok-server serve.
type program struct {
	cmd           *exec.Cmd
	url, adminURL string
	log           lockedBuffer
	ended         chan struct{}
	client        *http.Client
}

// serve starts byok-server serve on free ports and returns when it listens.
func serve(t *testing.T, env map[string]string, args ...string) *program {
	t.Helper()
	return startServing(t, command(t, env, serveArgs(args...)...))
}

func serveArgs(args ...string) []string {
	return append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--development"}, args...)
}

// startServing starts a command that runs serve with serveArgs, and returns when it
// listens.
func startServing(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	args := cmd.Args
	p := &program{
		cmd:   cmd,
		ended: make(chan struct{}),
		client: &http.Client{Timeout: waitAtMost, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // of a certificate that the test has made
		}},
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	type said struct {
		Msg, URL string
		AdminURL string `json:"admin_url"`
	}
	listening := make(chan said, 1)
	go func() {
		defer close(p.ended)
		defer close(listening)
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadBytes('\n')
			_, _ = p.log.Write(line)
			var s said
			if json.Unmarshal(line, &s) == nil && s.Msg == "listening" {
				listening <- s
			}
			if err != nil {
				_ = p.cmd.Wait()
				return
			}
		}
	}()
	select {
	case s := <-listening:
		if s.URL == "" {
			t.Fatalf("%q does not start:\n%s", args, p.log.String())
		}
		p.url, p.adminURL = s.URL, s.AdminURL
	case <-time.After(waitAtMost):
		t.Fatalf("%q does not listen:\n%s", args, p.log.String())
	}
	return p
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.client.CloseIdleConnections()
}

// stop ends the server as an operator does and returns its exit code.
func (p *program) stop(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(waitAtMost):
		t.Fatalf("serve does not stop:\n%s", p.log.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// response is a response whose body has been read.
type response struct {
	status int
	body   string
	// cookies is what a browser would send back.
	cookies string
}

// do sends a request; headers are name, value, name, value.
func (p *program) do(t *testing.T, method, url, body string, headers ...string) response {
	t.Helper()
	r, err := p.try(method, url, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *program) try(method, url, body string, headers ...string) (response, error) {
	if strings.HasPrefix(url, "/") {
		url = p.url + url
	}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	got, err := p.client.Do(request)
	if err != nil {
		return response{}, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	r := response{status: got.StatusCode, body: string(text)}
	var cookies []string
	for _, c := range got.Header.Values("Set-Cookie") {
		pair, _, _ := strings.Cut(c, ";")
		cookies = append(cookies, pair)
	}
	r.cookies = strings.Join(cookies, "; ")
	return r, err
}

const (
	email     = "a@example.com"
	workspace = "11111111-2222-4333-8444-555555555555"
	keysPath  = "/api/workspaces/" + workspace + "/byok-keys"
	bootstrap = `{"users":[{"email":"` + email + `","password":"passw0rd","name":"A"}],
		"workspaces":[{"id":"` + workspace + `","name":"W","owner":"` + email + `"}]}`
)

var (
	oldKey, newKey = strings.Repeat("0123456789abcdef", 4), strings.Repeat("fedcba9876543210", 4)
	secrets        = map[string]string{
		"ENCRYPTION_KEY":      oldKey,
		"BETTER_AUTH_SECRET":  "a secret of the tests that signs cookies",
		"INTERNAL_API_SECRET": internalSecret,
	}
)

const internalSecret = "a secret of the tests that opens resolve"

// with returns the secrets with some of them changed.
func with(pairs ...string) map[string]string {
	env := map[string]string{}
	for name, value := range secrets {
		env[name] = value
	}
	for i := 0; i < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return env
}

func (p *program) signIn(t *testing.T, email, password string) response {
	t.Helper()
	return p.do(t, http.MethodPost, "/api/auth/sign-in/email", `{"email":"`+email+`","password":"`+password+`"}`, "Content-Type", "application/json")
}

// resolve returns the response of the rotation, or an error of the connection.
func (p *program) resolve(providerID string) (response, error) {
	return p.try(http.MethodPost, p.adminURL+"/reference/resolve",
		`{"workspaceId":"`+workspace+`","providerId":"`+providerID+`"}`, "Authorization", "Bearer "+internalSecret)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// onBoth runs a test on a SQLite file and on a PostgreSQL database.
func onBoth(t *testing.T, test func(t *testing.T, target string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "keys.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.URL(t))
	})
}

func waitForEnvironment(t *testing.T, path string, p *program) map[string]string {
	t.Helper()
	deadline := time.After(waitAtMost)
	for {
		if text, err := os.ReadFile(path); err == nil {
			env := map[string]string{}
			for line := range strings.Lines(string(text)) {
				name, quoted, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
				env[name] = strings.Trim(quoted, "'")
			}
			return env
		}
		select {
		case <-p.ended:
			t.Fatalf("serve ended:\n%s", p.log.String())
		case <-deadline:
			t.Fatalf("no %s:\n%s", path, p.log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
