package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

func call(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, func(name string) string { return env[name] }, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const bootstrap = `{"users":[{"email":"a@example.com","password":"passw0rd","name":"A"}],
	"workspaces":[{"id":"w1","name":"W","owner":"a@example.com"}]}`

func TestCommandLine(t *testing.T) {
	t.Parallel()
	doc := write(t, "b.json", bootstrap)
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{nil, 2, "", "Usage:"},
		{[]string{"version"}, 0, "byok-server dev\n", ""},
		{[]string{"--help"}, 0, "import-legacy FILE", ""},
		{[]string{"serve", "--help"}, 0, "--env-file FILE", ""},
		{[]string{"migrate", "--help"}, 0, "byok-server migrate status|up [flags]", ""},
		{[]string{"nope"}, 2, "", `no command "nope"`},
		{[]string{"serve", "--nope"}, 2, "", "byok-server serve: flag provided but not defined: -nope"},
		{[]string{"serve", "x"}, 2, "", "no arguments are expected"},
		{[]string{"serve", "--log-format", "xml"}, 2, "", "--log-format xml: must be text or json"},
		{[]string{"serve", "--env-file", "x"}, 2, "", "--env-file needs a workspace"},
		{[]string{"serve", "--bootstrap", "/nonexistent/b.json"}, 1, "", "--bootstrap: open /nonexistent/b.json"},
		{[]string{"serve", "--bootstrap", doc, "--database", "mysql:x"}, 1, "", "database must be sqlite:PATH"},
		{[]string{"serve", "--bootstrap", doc, "--database", "postgres://u@h/d"}, 1, "", "must be set in the environment"},
		{[]string{"migrate"}, 2, "", "expected status|up"},
		{[]string{"migrate", "down"}, 2, "", `expected status or up, got "down"`},
		{[]string{"migrate", "up", "--database", "mysql:x"}, 1, "", "database must be sqlite:PATH"},
		{[]string{"import-legacy"}, 2, "", "expected FILE"},
		{[]string{"import-legacy", "/nonexistent/f"}, 1, "", "open /nonexistent/f"},
	} {
		got := call(t, nil, tt.args...)
		if got.code != tt.code || !strings.Contains(got.stdout, tt.stdout) || !strings.Contains(got.stderr, tt.stderr) {
			t.Errorf("%q: %+v, want %d, %q, %q", tt.args, got, tt.code, tt.stdout, tt.stderr)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	target := "sqlite:" + filepath.Join(t.TempDir(), "m.db")
	if got := call(t, nil, "migrate", "status", "--database", target); got.code != 0 || !regexp.MustCompile(`0001 +single_keys +pending`).MatchString(got.stdout) {
		t.Errorf("status before: %+v", got)
	}
	if got := call(t, nil, "migrate", "--database", target, "up"); got.code != 0 || !strings.Contains(got.stdout, "applied 0001_single_keys") {
		t.Errorf("up: %+v", got)
	}
	if got := call(t, nil, "migrate", "up", "--database", target); got.stdout != "the schema is up to date\n" {
		t.Errorf("up again: %+v", got)
	}
	if got := call(t, nil, "migrate", "status", "--database", target); strings.Contains(got.stdout, "pending") {
		t.Errorf("status after: %+v", got)
	}
}

func TestImportLegacy(t *testing.T) {
	t.Parallel()
	const secret = "sk-legacy-secret"
	target := "sqlite:" + filepath.Join(t.TempDir(), "i.db")
	file := write(t, "legacy.jsonl", `{"workspaceId":"w","providerId":"openai","apiKey":"`+secret+`"}`+"\n{}\n")
	env := map[string]string{"ENCRYPTION_KEY": strings.Repeat("ab", 32)}
	if got := call(t, env, "import-legacy", file, "--dry-run", "--database", target); got.code != 1 || !strings.Contains(got.stderr, "run byok-server migrate up first") {
		t.Errorf("dry run before the schema: %+v", got)
	}
	call(t, nil, "migrate", "up", "--database", target)
	for _, tt := range []struct {
		flag, want string
	}{
		{"--dry-run", "would import 1, skipped 0 "},
		{"--dry-run=false", "imported 1, skipped 0 "},
		{"--dry-run=false", "imported 0, skipped 1 "},
	} {
		got := call(t, env, "import-legacy", file, tt.flag, "--database", target)
		if got.code != 1 || !strings.HasPrefix(got.stdout, tt.want) || !strings.Contains(got.stderr, "legacy.jsonl:line 2") {
			t.Errorf("%s: %+v, want %s", tt.flag, got, tt.want)
		}
		if strings.Contains(got.stdout+got.stderr, secret) {
			t.Errorf("the secret is shown: %+v", got)
		}
	}
}

// lockedBuffer can be read while a server logs to it.
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

// TestServe starts the server twice on one file: what the first run made, the
// second one reads.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	doc, envFile, secrets := write(t, "b.json", bootstrap), filepath.Join(dir, "env"), filepath.Join(dir, "s.db.secrets")
	for round, want := range []string{"made ENCRYPTION_KEY, BETTER_AUTH_SECRET, INTERNAL_API_SECRET", "read ENCRYPTION_KEY, BETTER_AUTH_SECRET, INTERNAL_API_SECRET"} {
		ctx, stop := context.WithCancel(t.Context())
		var stderr lockedBuffer
		ended := make(chan int, 1)
		go func() {
			args := []string{"serve", "--listen", "127.0.0.1:0", "--database", "sqlite:" + filepath.Join(dir, "s.db"),
				"--bootstrap", doc, "--env-file", envFile, "--log-format", "json"}
			ended <- run(ctx, args, func(string) string { return "" }, &stderr, &stderr)
		}()
		env := waitForEnvironment(t, envFile, ended, &stderr)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, env["BYOK_ENDPOINT"]+"/api/workspaces/"+env["BYOK_WORKSPACE_ID"]+"/byok-keys", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", "better-auth.session_token="+env["BYOK_SESSION_TOKEN"])
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("run %d: GET = %d", round, answer.StatusCode)
		}
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("run %d: exit code %d", round, code)
		}
		log := stderr.String()
		if !strings.Contains(log, want) || !strings.Contains(log, `"msg":"listening"`) {
			t.Errorf("run %d: log\n%s", round, log)
		}
		if strings.Contains(log, env["BYOK_SESSION_TOKEN"]) {
			t.Errorf("run %d: the session token is logged", round)
		}
		for _, path := range []string{envFile, secrets} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v, want mode 0600", path, info, err)
			}
		}
		if err := os.Remove(envFile); err != nil {
			t.Fatal(err)
		}
	}
}

func waitForEnvironment(t *testing.T, path string, ended <-chan int, stderr *lockedBuffer) map[string]string {
	t.Helper()
	deadline := time.After(30 * time.Second)
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
		case code := <-ended:
			t.Fatalf("serve ended with %d\n%s", code, stderr)
		case <-deadline:
			t.Fatalf("no %s after 30 s\n%s", path, stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
