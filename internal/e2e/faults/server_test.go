package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// serverBinary builds byok-server once per test binary; TestMain removes it.
var serverBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "byok-server-")
	if err != nil {
		return "", err
	}
	builtServer = dir
	bin := filepath.Join(dir, "byok-server")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/terraform-provider-byok/terraform-provider-byok/cmd/byok-server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

var builtServer string // the folder to remove, once serverBinary has run

// site is where byok-server processes run: a database, secrets, a bootstrap
// document with one user and one workspace.
type site struct {
	bin, bootstrap, database string
	env                      []string
	client                   *http.Client
}

const (
	siteWorkspace      = "8b7f1c62-3f0a-4f2e-9d55-0c1b2a3d4e5f"
	siteUser           = "owner@example.com"
	sitePassword       = "correct horse battery staple"
	siteInternalSecret = "internal-secret-of-the-test"
)

func newSite(t *testing.T, database string) *site {
	t.Helper()
	bin, err := serverBinary()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(map[string]any{
		"users":      []any{map[string]any{"email": siteUser, "password": sitePassword, "name": "Owner"}},
		"workspaces": []any{map[string]any{"id": siteWorkspace, "name": "Site", "owner": siteUser}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return &site{
		bin: bin, bootstrap: file, database: database,
		env: append(os.Environ(), "ENCRYPTION_KEY="+strings.Repeat("0123456789abcdef", 4),
			"BETTER_AUTH_SECRET=auth-secret-of-the-test", "INTERNAL_API_SECRET="+siteInternalSecret),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
	}
}

// process is one running byok-server.
type process struct {
	cmd  *exec.Cmd
	url  string
	done chan struct{} // closed when it has ended
	log  *bytes.Buffer // to be read after done
}

// start returns a byok-server that accepts requests.
func (s *site) start(t *testing.T, flags ...string) *process {
	t.Helper()
	p, err := s.launch(flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (s *site) launch(flags ...string) (*process, error) {
	args := []string{"serve", "--listen", "127.0.0.1:0", "--database", s.database, "--bootstrap", s.bootstrap, "--development", "--log-format", "json"}
	p := &process{cmd: exec.Command(s.bin, append(args, flags...)...), done: make(chan struct{}), log: &bytes.Buffer{}}
	p.cmd.Env = s.env
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	listening := make(chan string, 1)
	go func() {
		defer close(p.done)
		defer close(listening)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadBytes('\n')
			p.log.Write(line)
			var said struct{ Msg, URL string }
			if json.Unmarshal(line, &said) == nil && said.Msg == "listening" {
				listening <- said.URL
			}
			if err != nil {
				_ = p.cmd.Wait()
				return
			}
		}
	}()
	p.url = <-listening
	if p.url == "" {
		<-p.done
		return nil, fmt.Errorf("byok-server does not start: %s", p.log)
	}
	return p, nil
}

// kill ends the process with SIGKILL, by its ID.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// session signs in and returns the value of the session cookie.
func (s *site) session(t *testing.T, url string) string {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"email": siteUser, "password": sitePassword})
	resp, err := s.client.Post(url+"/api/auth/sign-in/email", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, cookie := range resp.Cookies() {
		if cookie.Name == "better-auth.session_token" {
			return cookie.Value
		}
	}
	t.Fatalf("sign-in: %s", resp.Status)
	return ""
}

// door speaks to a server over HTTP, without the provider's client.
type door struct {
	client  *http.Client
	url     func() string
	session string
}

// do sends one request; into gets a 200 answer. A status of 0 is an answer that
// was lost.
func (d door) do(method, path string, body, into any) (status int, answer string) {
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		payload = bytes.NewReader(encoded)
	}
	req, err := http.NewRequest(method, d.url()+path, payload)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Cookie", "better-auth.session_token="+d.session)
	req.Header.Set("Authorization", "Bearer "+siteInternalSecret)
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	if resp.StatusCode == http.StatusOK && into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			return 0, err.Error()
		}
	}
	return resp.StatusCode, string(text)
}

func keysPath(workspaceID string) string { return "/api/workspaces/" + workspaceID + "/byok-keys" }

func (d door) List(t testing.TB, workspaceID string) []byok.Key {
	t.Helper()
	var answer byok.ListResponse
	if status, text := d.do(http.MethodGet, keysPath(workspaceID), nil, &answer); status != http.StatusOK {
		t.Fatalf("list: %d %s", status, text)
	}
	return answer.Keys
}

func (d door) Resolve(t testing.TB, workspaceID, providerID string) *acctest.Served {
	t.Helper()
	var answer *acctest.Served
	if status, text := d.do(http.MethodPost, "/reference/resolve", map[string]string{"workspaceId": workspaceID, "providerId": providerID}, &answer); status != http.StatusOK {
		t.Fatalf("resolve: %d %s", status, text)
	}
	return answer
}
