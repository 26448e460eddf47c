package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
)

// logBuffer can be read while a server logs to it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// auditLine is one line of the audit log.
type auditLine struct {
	Action, Actor, Address  string
	Scope, Owner, Workspace string
	ProviderID              string   `json:"provider_id"`
	KeyIDs                  []string `json:"key_ids"`
	Method, Route, Reason   string
	User                    string
	Status                  int
}

// readAudit reads the audit log, whose lines all must name their request.
func readAudit(t *testing.T, log *logBuffer) (all []auditLine) {
	t.Helper()
	for line := range strings.Lines(log.String()) {
		var r struct {
			Msg       string
			RequestID string `json:"request_id"`
			auditLine
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if r.Msg != "audit" {
			continue
		}
		if len(r.RequestID) != 8 {
			t.Errorf("no request ID: %s", line)
		}
		all = append(all, r.auditLine)
	}
	return all
}

// TestAuditAndMetrics changes keys and finds every change in the audit log, and
// none of the secrets in any log.
func TestAuditAndMetrics(t *testing.T) {
	t.Parallel()
	const secret = "sk-must-never-be-logged"
	var log logBuffer
	f := startFixture(t, func(c *server.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	in := f.signIn(t, signInBody)
	session := cookie("session_token", in.cookies["session_token"])
	save := func(body string) string {
		t.Helper()
		f.clock.advance(time.Millisecond) // keys of one instant stand in the order of their IDs
		a := f.call(t, http.MethodPost, testKeys, body, "Cookie", session)
		var got struct{ Key struct{ ID string } }
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", body, a.StatusCode, a.body)
		}
		return got.Key.ID
	}
	one := save(`{"providerId":"openai","apiKey":"` + secret + `1","name":"N"}`)
	two := save(`{"providerId":"openai","apiKey":"` + secret + `2"}`)
	save(`{"providerId":"openai","apiKey":"` + secret + `3","keyId":"` + one + `"}`)
	resolve := func() string {
		return f.call(t, http.MethodPost, "/reference/resolve", `{"workspaceId":"`+testWorkspace+`","providerId":"openai"}`, "Authorization", "Bearer internal").body
	}
	if got := resolve(); !strings.Contains(got, secret+"3") {
		t.Errorf("resolve: %s", got)
	}
	if _, err := f.DB().Write.ExecContext(t.Context(), "UPDATE workspace_byok_keys SET encrypted_api_key = 'garbage' WHERE id = $1", two); err != nil {
		t.Fatal(err)
	}
	resolve()
	f.call(t, http.MethodDelete, testKeys, `{"providerId":"openai","keyId":"`+one+`"}`, "Cookie", session)
	f.call(t, http.MethodDelete, testKeys, `{"providerId":"openai"}`, "Cookie", session)
	f.call(t, http.MethodDelete, testKeys, `{"providerId":"openai","keyId":"`+one+`"}`, "Cookie", session)

	metrics := f.call(t, http.MethodGet, "/reference/metrics", "")
	if !strings.HasPrefix(metrics.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("metrics are %s", metrics.Header.Get("Content-Type"))
	}
	for _, line := range []string{
		`byok_http_requests_total{method="POST",route="/api/workspaces/{id}/byok-keys",status="200"} 3`,
		`byok_http_requests_total{method="DELETE",route="/api/workspaces/{id}/byok-keys",status="404"} 1`,
		`byok_http_request_duration_seconds_count{method="POST",route="/reference/resolve"} 2`,
		`byok_keys_served_total{provider_id="openai",scope="workspace"} 2`,
		`byok_undecryptable_keys_total{owner="` + testWorkspace + `",provider_id="openai",scope="workspace"} 1`,
	} {
		if !strings.Contains(metrics.body, line+"\n") {
			t.Errorf("no %s in\n%s", line, metrics.body)
		}
	}

	user, err := f.Access().FindUser(t.Context(), testEmail)
	if err != nil {
		t.Fatal(err)
	}
	actor := user.ID
	audit := readAudit(t, &log)
	want := []auditLine{
		{Action: "sign-in", Actor: actor},
		{Action: "add", Actor: actor, KeyIDs: []string{one}},
		{Action: "add", Actor: actor, KeyIDs: []string{two}},
		{Action: "replace", Actor: actor, KeyIDs: []string{one}},
		{Action: "serve", KeyIDs: []string{one}, Workspace: testWorkspace},
		{Action: "serve", KeyIDs: []string{one}, Workspace: testWorkspace},
		{Action: "delete", Actor: actor, KeyIDs: []string{one}},
		{Action: "delete", Actor: actor, KeyIDs: []string{two}},
	}
	for i := range want {
		want[i].Address = "127.0.0.1"
		if want[i].KeyIDs != nil {
			want[i].Scope, want[i].Owner, want[i].ProviderID = "workspace", testWorkspace, "openai"
		}
	}
	if diff := cmp.Diff(want, audit); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
	for what, text := range map[string]string{
		"API key": secret, "password": testPassword, "session": in.cookies["session_token"], "session data": in.cookies["session_data"],
		"internal secret": "Bearer internal", "sealed value": "garbage",
	} {
		if strings.Contains(log.String(), text) {
			t.Errorf("the log holds the %s:\n%s", what, log.String())
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	if a := f.call(t, http.MethodGet, "/reference/health", ""); a.StatusCode != http.StatusOK || a.body != `{"status":"ok","store":"reachable"}` {
		t.Errorf("health: %d %s", a.StatusCode, a.body)
	}
	if err := f.DB().Read.Close(); err != nil {
		t.Fatal(err)
	}
	if a := f.call(t, http.MethodGet, "/reference/health", ""); a.StatusCode != http.StatusServiceUnavailable || !strings.Contains(a.body, "unreachable") {
		t.Errorf("health without a store: %d %s", a.StatusCode, a.body)
	}
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", cookie("session_token", f.Access().SignCookie("x"))); a.StatusCode != http.StatusInternalServerError || a.body != `{"error":"Internal server error"}` {
		t.Errorf("list without a store: %d %s", a.StatusCode, a.body)
	}
}

func TestResolveNeedsTheSecret(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	for authorization, want := range map[string]int{"": 401, "Bearer": 401, "Bearer ": 401, "Bearer x": 401, "internal": 401, "Basic internal": 401, "Bearer internal": 200} {
		a := f.call(t, http.MethodPost, "/reference/resolve", `{"workspaceId":"w","providerId":"openai"}`, "Authorization", authorization)
		if a.StatusCode != want || (want == 200 && a.body != "null") {
			t.Errorf("%q: %d %s, want %d", authorization, a.StatusCode, a.body, want)
		}
	}
	for body, want := range map[string]int{"{": 400, "[]": 400, `{"workspaceId":1}`: 400, `{}`: 200, `{"workspaceId":"a\u0000","providerId":"openai"}`: 200} {
		if a := f.call(t, http.MethodPost, "/reference/resolve", body, "Authorization", "Bearer internal"); a.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", body, a.StatusCode, a.body, want)
		}
	}
}

func TestReadBootstrap(t *testing.T) {
	t.Parallel()
	user := `"users":[{"email":"a@example.com","password":"12345678","name":"A"}]`
	for text, want := range map[string]string{
		`{` + user + `}`: "",
		`{}`:             "",
		``:               "the document is empty",
		`{"users":[`:     "line 1: the document ends too early",
		"{\n\n]":         "line 3:",
		"{\"users\":[{\"email\":\"a\"\n\"name\":\"b\"}]}": "line 2: invalid character",
		"{\"users\":[{}\n{}]}":                            "line 2: invalid character",
		"{\"users\":\n}":                                  "line 2: invalid character",
		`{} {}`:                                           "something follows the document",
		`{"user":[]}`:                                     `unknown field "user"`,
		`{"users":[{"email":1}]}`:                         "line 1: users.email: a JSON number stands where a string is expected",
		`{"users":[],"users":[]}`:                         "users: the field occurs twice",
		`{"users":[{"email":"a","email":"b"}]}`:           "users[0].email: the field occurs twice",
		`{"users":[{"email":"a","password":"12345678"}]}`: `users[0].email: "a" is no e-mail address`,
		`{"users":[{"email":"a@b.example","password":"1234567"}]}`:                                                                      "users[0].password: needs at least 8 characters",
		`{"users":[{"email":"a@b.example","password":"12345678"},{"email":"A@B.example"}]}`:                                             "users[1].email: A@B.example is listed twice",
		`{"users":[{"email":"a@b","password":"12345678"}]}`:                                                                             `users[0].email: "a@b" is no e-mail address that sign-in accepts`,
		`{"users":[{"email":"a b@example.com","password":"12345678"}]}`:                                                                 `users[0].email: "a b@example.com" is no e-mail address that sign-in accepts`,
		`{"users":[{"email":"a@b.example","password":"12345678","name":"\u0000"}]}`:                                                     "users[0].name: contains U+0000",
		`{"users":[{"email":"a@b.example","disabled":true}]}`:                                                                           "",
		`{"users":[{"email":"a@b.example","disabled":false}]}`:                                                                          "users[0].password: needs at least 8 characters",
		`{"workspaces":[{"id":"\u0000","owner":"a@b.example"}]}`:                                                                        "workspaces[0].id: contains U+0000",
		`{"organizations":[{"name":"x"}]}`:                                                                                              "organizations[0].id: is missing",
		`{"organizations":[{"id":"o","members":[{"email":"a@b","role":"boss"}]}]}`:                                                      `organizations[0].members[0].role: "boss" must be owner, admin, member or none`,
		`{"workspaces":[{"id":"w"}]}`:                                                                                                   "workspaces[0].owner: is missing",
		`{"workspaces":[{"id":"w/x","owner":"a@b"}]}`:                                                                                   "workspaces[0].id: is missing or contains a slash",
		`{"workspaces":[{"id":"w","owner":"a@b"},{"id":"w","owner":"a@b"}]}`:                                                            "workspaces[1].id: w is listed twice",
		`{"workspaces":[{"id":"w","owner":"a@b","members":[{"permission":"owner"}]}]}`:                                                  `workspaces[0].members[0].permission: "owner" must be read, write, admin or none`,
		`{"workspaces":[{"id":"w","owner":"a@b","members":[{"permission":"read"}]}]}`:                                                   "workspaces[0].members[0].email: is missing",
		`{"workspaces":[{"id":"w","owner":"a@b","members":[{"role":"read"}]}]}`:                                                         `unknown field "role"`,
		`{"organizations":[{"id":"o","members":[{"email":"a@b","role":"none"}]}]}`:                                                      "",
		`{"workspaces":[{"id":"w","owner":"a@b","members":[{"email":"c@b","permission":"none"}]}]}`:                                     "",
		`{"workspaces":[{"id":"w","owner":"a@b","members":[{"email":"A@b","permission":"none"}]}]}`:                                     "workspaces[0].members[0].permission: A@b owns the workspace",
		`{"workspaces":[{"id":"w","owner":"a@b","members":[{"email":"c@b","permission":"none"},{"email":"C@b","permission":"read"}]}]}`: "workspaces[0].members[1].email: C@b is listed twice",
		`{"organizations":[{"id":"o","members":[{"email":"c@b","role":"none"},{"email":"C@b","role":"member"}]}]}`:                      "organizations[0].members[1].email: C@b is listed twice",
	} {
		_, err := server.ReadBootstrap(strings.NewReader(text))
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadBootstrap(f *testing.F) {
	for _, text := range []string{`{}`, `{"users":[{"email":"a@b.example","password":"12345678"}]}`, `{"workspaces":[{"id":"w" "owner":"a@b.example"}]}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if doc, err := server.ReadBootstrap(strings.NewReader(text)); err == nil && !json.Valid([]byte(text)) {
			t.Errorf("no error; read %+v", doc)
		}
	})
}

func TestApplyIsIdempotent(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	doc := &server.Bootstrap{
		Users:         []server.BootstrapUser{{Email: testEmail, Password: "another password", Name: "A"}, {Email: "b@example.com", Password: "password", Name: "B"}},
		Organizations: []server.BootstrapOrganization{{ID: "o", Name: "O", Members: []server.BootstrapMember{{Email: "b@example.com", Role: "owner"}}}},
		Workspaces: []server.BootstrapWorkspace{{ID: testWorkspace, Name: "W", OrganizationID: "o", Owner: testEmail,
			Members: []server.BootstrapPermission{{Email: "B@example.com", Permission: "read"}}}},
	}
	var before string
	for round := range 2 {
		if err := f.Apply(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
		var state string
		for _, query := range []string{
			`SELECT group_concat(id || email || name || updated_at) FROM "user"`, `SELECT group_concat(id || password || updated_at) FROM account`,
			`SELECT group_concat(id || role) FROM member`, `SELECT group_concat(id || permission_type) FROM permissions`, `SELECT group_concat(id || organization_id) FROM workspace`,
		} {
			var text string
			if err := f.DB().Read.QueryRowContext(t.Context(), query).Scan(&text); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			state += text + "\n"
		}
		if round == 1 && state != before {
			t.Errorf("the second time changed\n%s\nto\n%s", before, state)
		}
		before = state
	}
	f.signIn(t, strings.Replace(signInBody, testPassword, "another password", 1))
	for want, doc := range map[string]*server.Bootstrap{
		"workspaces[0].owner: there is no user x@y":                {Workspaces: []server.BootstrapWorkspace{{ID: "w", Owner: "x@y"}}},
		"workspaces[0].organizationId: there is no organization p": {Workspaces: []server.BootstrapWorkspace{{ID: "w", Owner: testEmail, OrganizationID: "p"}}},
		"organizations[0].members[0].email: there is no user x@y":  {Organizations: []server.BootstrapOrganization{{ID: "o", Members: []server.BootstrapMember{{Email: "x@y", Role: "member"}}}}},
	} {
		if err := f.Apply(t.Context(), doc); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestLoadSecrets(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	env := func(values map[string]string) func(string) string {
		return func(name string) string { return values[name] }
	}
	none := env(nil)
	all := env(map[string]string{"ENCRYPTION_KEY": "e", "BETTER_AUTH_SECRET": "b", "INTERNAL_API_SECRET": "i"})
	target := "sqlite:" + filepath.Join(t.TempDir(), "s.db")

	if s, note, err := server.LoadSecrets(ctx, "postgres://x", all); err != nil || note != "" || s.EncryptionKey != "e" || s.AuthSecret != "b" || s.InternalSecret != "i" {
		t.Errorf("environment: %+v %q %v", s, note, err)
	}
	if _, _, err := server.LoadSecrets(ctx, "postgres://x", none); err == nil || !strings.Contains(err.Error(), "ENCRYPTION_KEY, BETTER_AUTH_SECRET, INTERNAL_API_SECRET must be set") {
		t.Errorf("PostgreSQL without: %v", err)
	}
	if s, note, err := server.LoadSecrets(ctx, "sqlite::memory:", none); err != nil || len(s.EncryptionKey) != 64 || !strings.Contains(note, "for this run") {
		t.Errorf("memory: %+v %q %v", s, note, err)
	}

	// Of many that start at once, one makes the file and all read it.
	var wg sync.WaitGroup
	found := make([]server.Secrets, 8)
	for i := range found {
		wg.Go(func() {
			var err error
			if found[i], _, err = server.LoadSecrets(ctx, target, none); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range found[1:] {
		if s != found[0] {
			t.Errorf("%+v is not %+v", s, found[0])
		}
	}
	path := strings.TrimPrefix(target, "sqlite:")
	if info, err := os.Stat(path + ".secrets"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secrets file: %v %v", info, err)
	}
	if left, err := filepath.Glob(filepath.Dir(path) + "/.*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
	if err := os.WriteFile(path+".secrets", []byte("BETTER_AUTH_SECRET=b\nINTERNAL_API_SECRET=i\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.LoadSecrets(ctx, target, none); err == nil || !strings.Contains(err.Error(), "ENCRYPTION_KEY is neither in the environment nor in") {
		t.Errorf("a file without ENCRYPTION_KEY: %v", err)
	}
	// A database with keys never gets a new key silently.
	if err := os.Remove(path + ".secrets"); err != nil {
		t.Fatal(err)
	}
	f := startFixture(t, func(c *server.Config) { c.Database = target })
	session := cookie("session_token", f.signIn(t, signInBody).cookies["session_token"])
	f.call(t, http.MethodPost, testKeys, `{"providerId":"openai","apiKey":"sk-x"}`, "Cookie", session)
	if _, _, err := server.LoadSecrets(ctx, target, none); err == nil || !strings.Contains(err.Error(), "the database holds keys already") {
		t.Errorf("a database with keys: %v", err)
	}
}

func TestWriteEnvFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "env")
	environment := server.Environment{Endpoint: "http://x", WorkspaceID: "it's", SessionToken: "t%2B"}
	for _, others := range []string{"ENCRYPTION_KEY=0123\n", `{"users":[]}`, "SQLite format 3\x00"} {
		if err := os.WriteFile(path, []byte(others), 0o600); err != nil {
			t.Fatal(err)
		}
		err := server.WriteEnvFile(path, environment)
		if text, readErr := os.ReadFile(path); err == nil || readErr != nil || string(text) != others {
			t.Errorf("%q is now %q: %v, %v", others, text, err, readErr)
		}
	}
	if err := os.WriteFile(path, []byte("export BYOK_ENDPOINT='http://old'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := server.WriteEnvFile(path, environment); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	want := "export BYOK_ENDPOINT='http://x'\nexport BYOK_WORKSPACE_ID='it'\\''s'\nexport BYOK_SESSION_TOKEN='t%2B'\n"
	if info, statErr := os.Stat(path); err != nil || statErr != nil || string(text) != want || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v %s", err, statErr, text)
	}
}

// A request that is under way when the server is told to stop gets its response;
// one that does not end in time is cut off, and said so.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		entered, leave := make(chan struct{}), make(chan struct{})
		s, err := server.Start(t.Context(), server.Config{
			Database: "sqlite::memory:", Secrets: server.Secrets{EncryptionKey: strings.Repeat("ab", 32), AuthSecret: "a", InternalSecret: "i"},
			Middleware: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(entered)
					<-leave
					next.ServeHTTP(w, r)
				})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		health := make(chan int, 1)
		go func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/reference/health", nil)
			if err != nil {
				t.Error(err)
			}
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err != nil {
				health <- 0
				return
			}
			_ = response.Body.Close()
			health <- response.StatusCode
		}()
		<-entered
		ctx, cancel := context.WithCancel(context.Background())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(ctx) }()
		if ends {
			close(leave)
		} else {
			cancel()
		}
		err, status := <-stopped, <-health
		if ends && (err != nil || status != http.StatusOK) {
			t.Errorf("drained: %d, %v", status, err)
		}
		if !ends {
			close(leave)
			if err == nil || status != 0 || !strings.Contains(err.Error(), "some requests did not end in time and were cut off") {
				t.Errorf("cut off: %d, %v", status, err)
			}
		}
		cancel()
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	good := server.Secrets{EncryptionKey: strings.Repeat("ab", 32), AuthSecret: "a", InternalSecret: "i"}
	for want, cfg := range map[string]server.Config{
		"ENCRYPTION_KEY must be 64 hex digits": {Database: "sqlite::memory:"},
		"BETTER_AUTH_SECRET and":               {Database: "sqlite::memory:", Secrets: server.Secrets{EncryptionKey: good.EncryptionKey}},
		"listen on 127.0.0.1:99999":            {Database: "sqlite::memory:", Secrets: good, Listen: "127.0.0.1:99999"},
		"app URL":                              {Database: "sqlite::memory:", Secrets: good, AppURL: "sim.example.com"},
		"database must be":                     {Database: "mysql:x", Secrets: good},
		"bootstrap: users[0].email":            {Database: "sqlite::memory:", Secrets: good, Bootstrap: &server.Bootstrap{Users: []server.BootstrapUser{{}}}},
	} {
		if _, err := server.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
