//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
)

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
		{[]string{"--version"}, 0, "byok-server dev\n", ""},
		{[]string{"-version"}, 0, "byok-server dev\n", ""},
		{[]string{"--help"}, 0, "import-legacy", ""},
		{[]string{"-help"}, 0, "ENCRYPTION_KEY", ""},
		{[]string{"help"}, 0, "Examples:", ""},
		{[]string{"serve", "--help"}, 0, "--env-file FILE", ""},
		{[]string{"serve", "--help"}, 0, "Examples:", ""},
		{[]string{"migrate", "--help"}, 0, "byok-server migrate status|up|adopt [flags]", ""},
		{[]string{"nope"}, 2, "", `no command "nope"`},
		{[]string{"sever"}, 2, "", "did you mean serve?"},
		{[]string{"serve", "--nope"}, 2, "", "byok-server serve: unknown flag: --nope"},
		{[]string{"serve", "x"}, 2, "", "no arguments are expected"},
		{[]string{"serve", "--log-format", "xml"}, 2, "", "--log-format xml: must be text or json"},
		{[]string{"serve", "-log-format", "xml"}, 2, "", "--log-format xml: must be text or json"},
		{[]string{"serve", "--log-level", "loud"}, 2, "", "--log-level loud: must be debug, info, warn or error"},
		{[]string{"serve", "--env-file", "x"}, 2, "", "--env-file needs a workspace"},
		{[]string{"serve", "--bootstrap", "/nonexistent/b.json"}, 1, "", "--bootstrap: open /nonexistent/b.json"},
		{[]string{"serve", "--bootstrap", doc, "--database", "mysql:x"}, 1, "", "database must be sqlite:PATH"},
		{[]string{"serve", "--bootstrap", doc, "--database", "postgres://u@h/d"}, 1, "", "must be set in the environment"},
		{[]string{"migrate"}, 2, "", "expected status|up|adopt"},
		{[]string{"migrate", "down"}, 2, "", `expected status|up|adopt, got "down"`},
		{[]string{"migrate", "up", "--database", "mysql:x"}, 1, "", "database must be sqlite:PATH"},
		{[]string{"import-legacy"}, 2, "", "expected FILE"},
		{[]string{"import-legacy", "/nonexistent/f"}, 1, "", "open /nonexistent/f"},
		{[]string{"user"}, 2, "", "expected list|add|disable|enable|password"},
		{[]string{"user", "add"}, 2, "", "expected EMAIL"},
		{[]string{"user", "add", "a@b"}, 2, "", `"a@b" is no e-mail address that sign-in accepts`},
		{[]string{"user", "add", "a@example.com"}, 2, "", "give --password-file FILE"},
		{[]string{"user", "list"}, 1, "", noFile("byok-server.db")},
		{[]string{"session", "list"}, 1, "", noFile("byok-server.db")},
		{[]string{"session", "revoke"}, 2, "", "expected either IDs of sessions or --user EMAIL"},
		{[]string{"session", "revoke", "x", "--user", "a@example.com"}, 2, "", "expected either IDs of sessions or --user EMAIL"},
		{[]string{"keys"}, 2, "", "expected list|verify|rekey"},
		{[]string{"keys", "verify"}, 1, "", noFile("byok-server.db")},
		{[]string{"keys", "list", "--database", "sqlite:mistyped.db"}, 1, "", noFile("mistyped.db")},
		{[]string{"keys", "list", "--database", "sqlite:/nonexistent/m.db"}, 1, "", noFile("/nonexistent/m.db")},
		{[]string{"keys", "rekey", "--database", "sqlite:mistyped.db"}, 1, "", noFile("mistyped.db")},
		{[]string{"keys", "list", "--database", "sqlite:"}, 1, "", "database sqlite: has no path"},
		{[]string{"keys", "list", "--database", "sqlite:" + doc}, 1, "", "ENCRYPTION_KEY is neither in the environment nor in " + doc + ".secrets"},
		{[]string{"migrate", "status", "--database", "sqlite:mistyped.db"}, 1, "", noFile("mistyped.db")},
		{[]string{"migrate", "status", "--database", "sqlite::memory:"}, 0, "pending", ""},
		{[]string{"import-legacy", doc, "--dry-run", "--database", "sqlite:mistyped.db"}, 1, "", noFile("mistyped.db")},
		{[]string{"keys", "list", "--workspace", "w", "--organization", "o"}, 2, "", "exclude each other"},
		{[]string{"backup"}, 2, "", "expected FILE"},
		{[]string{"backup", "x"}, 1, "", noFile("byok-server.db")},
		{[]string{"backup", "x", "--database", "postgres://u@h/d"}, 1, "", "use pg_dump"},
	} {
		cmd := command(t, nil, tt.args...)
		got := finish(t, cmd, "")
		if got.code != tt.code || !strings.Contains(got.stdout, tt.stdout) || !strings.Contains(got.stderr, tt.stderr) {
			t.Errorf("%q: %+v, want %d, %q, %q", tt.args, got, tt.code, tt.stdout, tt.stderr)
		}
		if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
			t.Errorf("%q left %v behind (%v)", tt.args, left, err)
		}
	}
}

// noFile is how a command that creates no database refuses the path of one that
// does not exist: with nothing about keys or migrations before it.
func noFile(path string) string {
	return ": the database file " + path + " does not exist: correct --database (default: sqlite:byok-server.db); nothing was created"
}

// A command line with anything wrong leaves no file behind, and no port bound.
func TestNothingIsMadeForWrongFlags(t *testing.T) {
	t.Parallel()
	doc, foreign := write(t, "b.json", bootstrap), write(t, "other.env", "SECRET=value\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--app-url", "sim.example.com"}, "app URL"},
		{[]string{"--app-url", "https://sim.example.com/path"}, "app URL"},
		{[]string{"--trusted-proxies", "10.0.0.0/8,proxy"}, `trusted proxy "proxy"`},
		{[]string{"--listen", "127.0.0.1:99999"}, "invalid port"},
		{[]string{"--admin-listen", "nowhere"}, "missing port"},
		{[]string{"--listen", "127.0.0.1:4711", "--admin-listen", "127.0.0.1:4711"}, "give it another port"},
		{[]string{"--tls-cert", "cert.pem"}, "both a certificate and its key"},
		{[]string{"--tls-cert", "cert.pem", "--tls-key", "key.pem"}, "cert.pem: no such file"},
		{[]string{"--tls-cert", doc, "--tls-key", doc}, "failed to find any PEM data"},
		{[]string{"--log-level", "x"}, "--log-level x"},
		{[]string{"--log-format", "x"}, "--log-format x"},
		{[]string{"--bootstrap", "nowhere.json"}, "no such file"},
		{[]string{"--bootstrap", write(t, "x.json", `{"users":[{"email":"a@b","password":"password"}]}`)}, "sign-in accepts"},
		{[]string{"--bootstrap", write(t, "y.json", `{"workspaces":[{"id":"w","name":"W","owner":"nobody@example.com","organizationId":"o"}]}`)}, "workspaces[0].owner: there is no user nobody@example.com; add it to users\nworkspaces[0].organizationId: there is no organization o"},
		{[]string{"--bootstrap", write(t, "z.json", strings.Replace(bootstrap, `"name":"A"`, `"name":"A","disabled":true`, 1)), "--env-file", "env"}, "user a@example.com, the owner of the first workspace, is disabled"},
		{[]string{"--bootstrap", doc, "--env-file", "no/folder/env"}, "the folder no/folder does not exist"},
		{[]string{"--bootstrap", doc, "--env-file", "."}, "is a folder"},
		{[]string{"--env-file", "env"}, "needs a workspace"},
		{[]string{"--bootstrap", doc, "--env-file", doc}, "another option names the same one"},
		{[]string{"--bootstrap", doc, "--database", "sqlite:made.db", "--env-file", "./made.db"}, "another option names the same one"},
		{[]string{"--bootstrap", doc, "--database", "sqlite:made.db", "--env-file", "made.db.secrets"}, "another option names the same one"},
		{[]string{"--bootstrap", doc, "--env-file", foreign}, "it would be overwritten"},
		{[]string{"--listen", taken.Addr().String()}, "address already in use"},
	} {
		cmd := command(t, nil, append([]string{"serve", "--listen", "127.0.0.1:0"}, tt.flags...)...)
		if tt.want == "address already in use" {
			cmd.Env = append(cmd.Env, "ENCRYPTION_KEY="+oldKey, "BETTER_AUTH_SECRET=x", "INTERNAL_API_SECRET=x")
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%q: %v, %s; want %q", tt.flags, err, out, tt.want)
		}
		if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
			t.Errorf("%q left %v behind (%v)", tt.flags, left, err)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "m.db")
	target := "sqlite:" + file
	if got := call(t, nil, "migrate", "status", "--database", target); got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, noFile(file)) {
		t.Errorf("status before: %+v", got)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("status made the database: %v", err)
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

// What each command says on the tables of Sim: before they are adopted, after
// it, and once they have changed.
func TestMigrateAdopt(t *testing.T) {
	t.Parallel()
	target := pgtest.SimURL(t)
	secrets := map[string]string{"ENCRYPTION_KEY": strings.Repeat("ab", 32), "BETTER_AUTH_SECRET": "s", "INTERNAL_API_SECRET": "i"}
	refused := func(when, want string) {
		t.Helper()
		for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"migrate", "up"}, {"migrate", "status"}, {"user", "list"}, {"keys", "verify"}} {
			if got := call(t, secrets, append(args, "--database", target)...); got.code != 1 || !strings.Contains(got.stderr, want) {
				t.Errorf("%q %s: %+v, want %q", args, when, got, want)
			}
		}
	}
	refused("before adopt", "`byok-server migrate adopt`")
	if got := must(t, nil, "migrate", "adopt", "--database", target); !strings.Contains(got, "applied 0001_own_tables") {
		t.Errorf("adopt: %s", got)
	}
	if got := must(t, nil, "migrate", "status", "--database", target); !strings.Contains(got, "own_tables") || strings.Contains(got, "pending") {
		t.Errorf("status: %s", got)
	}
	must(t, nil, "user", "list", "--database", target)

	conn, err := pgx.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "ALTER TABLE workspace_byok_keys ADD COLUMN deleted_at timestamp"); err != nil {
		t.Fatal(err)
	}
	const difference = "table workspace_byok_keys, column deleted_at: expected no such column, found timestamp, nullable"
	refused("after Sim's tables changed", difference)
	if got := call(t, nil, "migrate", "adopt", "--database", target); got.code != 1 || !strings.Contains(got.stderr, difference) {
		t.Errorf("adopt of changed tables: %+v", got)
	}
	if got := call(t, nil, "migrate", "adopt", "--database", "sqlite::memory:"); got.code != 1 || !strings.Contains(got.stderr, "PostgreSQL") {
		t.Errorf("adopt on SQLite: %+v", got)
	}
}

func TestImportLegacy(t *testing.T) {
	t.Parallel()
	const secret = "sk-legacy-secret"
	database := filepath.Join(t.TempDir(), "i.db")
	target := "sqlite:" + database
	file := write(t, "legacy.jsonl", `{"workspaceId":"w","providerId":"openai","apiKey":"`+secret+`"}`+"\n{}\n")
	env := map[string]string{"ENCRYPTION_KEY": oldKey}
	for _, flag := range []string{"--dry-run", "--dry-run=false"} {
		if got := call(t, nil, "import-legacy", file, flag, "--database", target); got.code != 1 || !strings.Contains(got.stderr, noFile(database)) {
			t.Errorf("%s without a database: %+v", flag, got)
		}
		for _, made := range []string{database, database + ".secrets"} {
			if _, err := os.Stat(made); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s made %s: %v", flag, made, err)
			}
		}
	}
	if err := os.WriteFile(database, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := call(t, env, "import-legacy", file, "--dry-run", "--database", target); got.code != 1 || !strings.Contains(got.stderr, "run byok-server migrate up first") {
		t.Errorf("dry run before the schema: %+v", got)
	}
	if got := must(t, nil, "migrate", "status", "--database", target); !regexp.MustCompile(`0001 +single_keys +pending`).MatchString(got) {
		t.Errorf("status before the schema: %s", got)
	}
	must(t, nil, "migrate", "up", "--database", target)
	for _, tt := range []struct {
		flag, want string
	}{
		{"--dry-run", "would import 1, skipped 0 "},
		{"--dry-run=false", "imported 1, skipped 0 "},
		{"--dry-run=false", "imported 0, skipped 1 "},
	} {
		got := call(t, env, "import-legacy", file, tt.flag, "--database", target)
		if missing := strings.Contains(got.stderr, `warning: this database has no workspace "w": keys are used once their workspace exists`); missing != strings.Contains(tt.want, "1, skipped") {
			t.Errorf("%s of a workspace that is not there: %+v", tt.flag, got)
		}
		if got.code != 1 || !strings.HasPrefix(got.stdout, tt.want) || !strings.Contains(got.stderr, "legacy.jsonl:line 2") {
			t.Errorf("%s: %+v, want %s", tt.flag, got, tt.want)
		}
		if strings.Contains(got.stdout+got.stderr, secret) {
			t.Errorf("the secret is shown: %+v", got)
		}
	}
	other := write(t, "other.jsonl", `{"workspaceId":"v","providerId":"openai","apiKey":"`+secret+`"}`)
	if got := call(t, map[string]string{"ENCRYPTION_KEY": newKey}, "import-legacy", other, "--database", target); got.code != 1 || !strings.Contains(got.stderr, "ENCRYPTION_KEY is not the key") {
		t.Errorf("another key: %+v", got)
	}
}

// The session of an env file ends with a process that was killed, too: the next
// start ends it, and leaves that of a server that runs alone.
func TestEnvFileAfterKill(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		dir := t.TempDir()
		doc := write(t, "b.json", bootstrap)
		start := func(name string, more ...string) (*program, string) {
			envFile := filepath.Join(dir, name)
			p := serve(t, with(), append([]string{"--database", target, "--bootstrap", doc, "--env-file", envFile}, more...)...)
			return p, waitForEnvironment(t, envFile, p)["BYOK_SESSION_TOKEN"]
		}
		killed, orphan := start("killed")
		killed.kill()
		kept, outlives := start("kept", "--env-file-keep-session")
		kept.kill()
		running, alive := start("running")
		p := serve(t, with(), "--database", target, "--bootstrap", doc)
		for token, want := range map[string]int{orphan: http.StatusUnauthorized, outlives: http.StatusOK, alive: http.StatusOK} {
			if got := p.do(t, http.MethodGet, keysPath, "", "Cookie", "better-auth.session_token="+token).status; got != want {
				t.Errorf("status %d, want %d", got, want)
			}
		}
		running.stop(t)
		if got := p.do(t, http.MethodGet, keysPath, "", "Cookie", "better-auth.session_token="+alive).status; got != http.StatusUnauthorized {
			t.Errorf("after its server has stopped, a session gets %d", got)
		}
	})
}

// TestServe starts the server three times on one file: what the first run made,
// the next ones read; the session in the env file ends with the server unless
// asked otherwise.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	doc, envFile, secretsFile := write(t, "b.json", bootstrap), filepath.Join(dir, "env"), filepath.Join(dir, "s.db.secrets")
	sessions := map[string]int{} // tokens and the status that each should have at the end
	for round, want := range []string{"made ENCRYPTION_KEY, BETTER_AUTH_SECRET, INTERNAL_API_SECRET", "read ENCRYPTION_KEY, BETTER_AUTH_SECRET, INTERNAL_API_SECRET", "read ENCRYPTION_KEY"} {
		args := []string{"--database", "sqlite:" + filepath.Join(dir, "s.db"), "--bootstrap", doc, "--env-file", envFile}
		if round == 1 {
			args = append(args, "--env-file-keep-session")
		}
		p := serve(t, nil, args...)
		// It is written after the server listens.
		env := waitForEnvironment(t, envFile, p)
		token := env["BYOK_SESSION_TOKEN"]
		if sessions[token] = http.StatusUnauthorized; round == 1 {
			sessions[token] = http.StatusOK
		}
		if env["BYOK_ENDPOINT"] != p.url || env["BYOK_WORKSPACE_ID"] != workspace {
			t.Errorf("run %d: %q", round, env)
		}
		list := func(token string) int {
			return p.do(t, http.MethodGet, keysPath, "", "Cookie", "better-auth.session_token="+token).status
		}
		if got := list(token); got != http.StatusOK {
			t.Errorf("run %d: GET = %d", round, got)
		}
		if round == 2 {
			for earlier, want := range sessions {
				if got := list(earlier); earlier != token && got != want {
					t.Errorf("a session of an earlier run: GET = %d, want %d", got, want)
				}
			}
		}
		if code := p.stop(t); code != 0 {
			t.Errorf("run %d: exit code %d", round, code)
		}
		log := p.log.String()
		if !strings.Contains(log, want) {
			t.Errorf("run %d: log\n%s", round, log)
		}
		if strings.Contains(log, token) {
			t.Errorf("run %d: the session token is logged", round)
		}
		for _, path := range []string{envFile, secretsFile} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v, want mode 0600", path, info, err)
			}
		}
		if err := os.Remove(envFile); err != nil {
			t.Fatal(err)
		}
	}
}

// A container that no file can be given to takes the bootstrap document from the
// environment.
func TestBootstrapFromTheEnvironment(t *testing.T) {
	t.Parallel()
	const other = "99999999-2222-4333-8444-555555555555"
	doc, envFile := write(t, "b.json", strings.ReplaceAll(bootstrap, workspace, other)), filepath.Join(t.TempDir(), "env")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, workspace},
		{[]string{"--bootstrap", doc}, other},
	} {
		p := serve(t, map[string]string{"BYOK_BOOTSTRAP": bootstrap}, append(test.args, "--database", "sqlite::memory:", "--env-file", envFile)...)
		if got := waitForEnvironment(t, envFile, p)["BYOK_WORKSPACE_ID"]; got != test.want {
			t.Errorf("%q: workspace %q, want %q", test.args, got, test.want)
		}
		p.stop(t)
		if err := os.Remove(envFile); err != nil {
			t.Fatal(err)
		}
	}
	got := call(t, map[string]string{"BYOK_BOOTSTRAP": "{"}, "serve", "--listen", "127.0.0.1:0", "--database", "sqlite::memory:")
	if got.code != 1 || !strings.Contains(got.stderr, "byok-server serve: BYOK_BOOTSTRAP: ") {
		t.Errorf("a broken document: %+v", got)
	}
}

// Garbage is collected less often than by default, within a bound, and as the
// environment says where it says so.
func TestGarbageCollection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"default", with(), []string{"go_gc_gogc_percent 400", "go_gc_gomemlimit_bytes 2.68435456e+08"}},
		{"GOGC", with("GOGC", "100"), []string{"go_gc_gogc_percent 100", "go_gc_gomemlimit_bytes 9.22"}},
		{"GOMEMLIMIT", with("GOMEMLIMIT", "1GiB"), []string{"go_gc_gogc_percent 100", "go_gc_gomemlimit_bytes 1.073741824e+09"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, tt.env, "--database", "sqlite::memory:")
			metrics := p.do(t, http.MethodGet, "/reference/metrics", "").body
			for _, want := range tt.want {
				if !strings.Contains(metrics, "\n"+want) {
					t.Errorf("the metrics do not have %s", want)
				}
			}
		})
	}
}

// The manual pages and the completion exist for every command.
func TestManualAndCompletion(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man1")
	must(t, nil, "man", dir)
	for _, page := range []string{"byok-server.1", "byok-server-serve.1", "byok-server-keys-rekey.1", "byok-server-user-disable.1"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !strings.Contains(string(text), `.TH "BYOK-SERVER`) {
			t.Errorf("%s: %v\n%s", page, err, text)
		}
	}
	for shell, want := range map[string]string{"bash": "__start_byok-server", "zsh": "#compdef byok-server", "fish": "complete -c byok-server"} {
		if got := must(t, nil, "completion", shell); !strings.Contains(got, want) {
			t.Errorf("completion %s has no %s", shell, want)
		}
	}
	if got := must(t, nil, "__complete", "keys", ""); !strings.Contains(got, "rekey") {
		t.Errorf("completion of keys: %s", got)
	}
}
