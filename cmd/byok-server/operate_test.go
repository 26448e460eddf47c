//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// What an operator does to users takes effect on a running server at once, for
// cookies too that stand for a lookup.
func TestThrowUserOut(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		p := serve(t, secrets, "--database", target, "--bootstrap", write(t, "b.json", bootstrap))
		on := func(args ...string) []string { return append(args, "--database", target) }
		list := func(cookies string) int { return p.do(t, http.MethodGet, keysPath, "", "Cookie", cookies).status }
		cookies := func(password string) string {
			t.Helper()
			r := p.signIn(t, email, password)
			if r.status != http.StatusOK || !strings.Contains(r.cookies, "session_data") {
				t.Fatalf("sign-in: %+v", r)
			}
			if got := list(r.cookies); got != http.StatusOK {
				t.Fatalf("with a new session: %d", got)
			}
			return r.cookies
		}

		// Another password.
		before := cookies("passw0rd")
		got := callWith(t, "another passw0rd\n", nil, on("user", "password", email, "--password-file", "-")...)
		if got.code != 0 || got.stdout != "set the password of a@example.com and ended 1 session\n" {
			t.Errorf("user password: %+v", got)
		}
		if got := list(before); got != http.StatusUnauthorized {
			t.Errorf("a session from before the change of the password: %d", got)
		}
		if got := p.signIn(t, email, "passw0rd").status; got != http.StatusUnauthorized {
			t.Errorf("sign-in with the old password: %d", got)
		}

		// One session of two.
		first, second := cookies("another passw0rd"), cookies("another passw0rd")
		var sessions []sessionRow
		for line := range strings.Lines(must(t, nil, on("session", "list", "--output", "json")...)) {
			var row sessionRow
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if strings.Contains(first+second, row.ID) || row.User != email || row.IPAddress == nil || *row.IPAddress != "127.0.0.1" {
				t.Errorf("session list: %s", line)
			}
			sessions = append(sessions, row)
		}
		if len(sessions) != 2 || sessions[0].CreatedAt < sessions[1].CreatedAt {
			t.Fatalf("session list: %+v", sessions)
		}
		if got := call(t, nil, on("session", "revoke", sessions[1].ID, "nope")...); got.code != 1 || !strings.Contains(got.stderr, "ended 1 session, then: there is no session nope") {
			t.Errorf("session revoke, one of two: %+v", got)
		}
		if a, b := list(first), list(second); a != http.StatusUnauthorized || b != http.StatusOK {
			t.Errorf("after the first of two sessions was ended: %d and %d", a, b)
		}
		if got := call(t, nil, on("session", "revoke", "nope")...); got.code != 1 || !strings.Contains(got.stderr, "revoke: there is no session nope") {
			t.Errorf("session revoke nope: %+v", got)
		}
		if got := must(t, nil, on("session", "revoke", "--user", email)...); got != "ended 1 session of a@example.com\n" {
			t.Errorf("session revoke --user: %s", got)
		}
		if got := list(second); got != http.StatusUnauthorized {
			t.Errorf("after all sessions were ended: %d", got)
		}

		// Disabled, then enabled.
		before = cookies("another passw0rd")
		if got := must(t, nil, on("user", "disable", email)...); got != "disabled a@example.com and ended 1 session\n" {
			t.Errorf("user disable: %s", got)
		}
		if got := list(before); got != http.StatusUnauthorized {
			t.Errorf("a session of a disabled user: %d", got)
		}
		if r := p.signIn(t, email, "another passw0rd"); r.status != http.StatusForbidden || !strings.Contains(r.body, "BANNED_USER") {
			t.Errorf("sign-in of a disabled user: %+v", r)
		}
		if got := must(t, nil, on("user", "list")...); !strings.Contains(got, "disabled") {
			t.Errorf("user list: %s", got)
		}
		must(t, nil, on("user", "enable", email)...)
		cookies("another passw0rd")

		// Another user.
		if got := callWith(t, "short\n", nil, on("user", "add", "b@example.com", "--password-file", "-")...); got.code != 1 || !strings.Contains(got.stderr, "8 to 128 characters") {
			t.Errorf("user add with a short password: %+v", got)
		}
		must(t, nil, on("user", "add", "b@example.com", "--name", "B", "--password-file", write(t, "password", "passw0rd of b\n"))...)
		if got := p.signIn(t, "b@example.com", "passw0rd of b").status; got != http.StatusOK {
			t.Errorf("sign-in of a user who was added: %d", got)
		}
		if got := callWith(t, "passw0rd\n", nil, on("user", "add", email, "--password-file", "-")...); got.code != 1 || !strings.Contains(got.stderr, "there is a user a@example.com already") {
			t.Errorf("user add of a user: %+v", got)
		}
		if got := call(t, nil, on("user", "disable", "c@example.com")...); got.code != 1 || !strings.Contains(got.stderr, "there is no user c@example.com") {
			t.Errorf("user disable of nobody: %+v", got)
		}
	})
}

// A user can be disabled by the bootstrap file, and stays disabled where the
// file does not say otherwise.
func TestDisabledInBootstrap(t *testing.T) {
	t.Parallel()
	target := "sqlite:" + filepath.Join(t.TempDir(), "keys.db")
	for i, tt := range []struct {
		user string
		want int
	}{
		{`"password":"passw0rd","name":"A"`, http.StatusOK},
		{`"disabled":true`, http.StatusForbidden},
		{`"password":"passw0rd","name":"A"`, http.StatusForbidden},
		{`"password":"passw0rd","name":"A","disabled":false`, http.StatusOK},
		{`"password":"another passw0rd","name":"A"`, http.StatusUnauthorized},
	} {
		doc := `{"users":[{"email":"` + email + `",` + tt.user + `}],"workspaces":[{"id":"` + workspace + `","owner":"` + email + `"}]}`
		p := serve(t, secrets, "--database", target, "--bootstrap", write(t, "b.json", doc))
		if got := p.signIn(t, email, "passw0rd"); got.status != tt.want {
			t.Errorf("start %d, %s: sign-in %+v, want %d", i, tt.user, got, tt.want)
		}
		p.stop(t)
	}
}

// workload stores keys of three provider IDs in a pool each, replaces them and
// resolves them, until it is stopped. Every key that is resolved must be one
// that was stored.
type workload struct {
	servers  []*program
	cookies  string
	stop     chan struct{}
	done     sync.WaitGroup
	replaced atomic.Int64
	resolved atomic.Int64
}

func startWorkload(t *testing.T, providerIDs []string, servers ...*program) *workload {
	t.Helper()
	w := &workload{servers: servers, cookies: servers[0].signIn(t, email, "passw0rd").cookies, stop: make(chan struct{})}
	for i, providerID := range providerIDs {
		add := servers[0].do(t, http.MethodPost, keysPath, `{"providerId":"`+providerID+`","apiKey":"sk-of-`+providerID+`-0"}`, "Cookie", w.cookies)
		var saved struct{ Key byok.Key }
		if err := json.Unmarshal([]byte(add.body), &saved); err != nil || add.status != http.StatusOK {
			t.Fatalf("add: %+v", add)
		}
		w.done.Go(func() {
			for n := 1; !w.isStopped(); n++ {
				p := servers[(i+n)%len(servers)]
				body := fmt.Sprintf(`{"providerId":"%s","apiKey":"sk-of-%s-%d","keyId":"%s"}`, providerID, providerID, n, saved.Key.ID)
				if r, err := p.try(http.MethodPost, p.url+keysPath, body, "Cookie", w.cookies); err != nil || r.status != http.StatusOK {
					t.Errorf("replace: %+v %v", r, err)
					return
				}
				w.replaced.Add(1)
			}
		})
		w.done.Go(func() {
			for n := 0; !w.isStopped(); n++ {
				if r, err := servers[(i+n)%len(servers)].resolve(providerID); err != nil || !strings.Contains(r.body, `"apiKey":"sk-of-`+providerID+`-`) {
					t.Errorf("resolve %s: %+v %v", providerID, r, err)
					return
				}
				w.resolved.Add(1)
			}
		})
	}
	return w
}

func (w *workload) isStopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

func (w *workload) end() {
	close(w.stop)
	w.done.Wait()
}

// TestRekeyUnderLoad changes ENCRYPTION_KEY by the steps of the guide while
// clients replace and resolve keys. The rekey is interrupted and killed several
// times before it may come through.
func TestRekeyUnderLoad(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		const stored = 1000
		doc := write(t, "b.json", bootstrap)
		start := func(encryptionKey, decryptionKeys string) *program {
			return serve(t, with("ENCRYPTION_KEY", encryptionKey, "DECRYPTION_KEYS", decryptionKeys), "--database", target, "--bootstrap", doc)
		}
		first := start(oldKey, "")
		var lines strings.Builder
		for i := range stored - 1 {
			fmt.Fprintf(&lines, `{"workspaceId":"w%d","providerId":"openai","apiKey":"sk-legacy-%07d"}`+"\n", i, i)
		}
		fmt.Fprintf(&lines, `{"workspaceId":%q,"providerId":"exa","apiKey":"sk-legacy"}`+"\n", workspace)
		imported := call(t, with(), "import-legacy", write(t, "legacy.jsonl", lines.String()), "--database", target)
		if warning := `warning: this database has no workspace "w0", "w1", "w10", "w100", "w101", and 994 more: keys are used once their workspace exists`; imported.code != 0 || !strings.Contains(imported.stderr, warning) {
			t.Fatalf("import: %+v", imported)
		}
		rekey := []string{"keys", "rekey", "--database", target}
		newEnv := with("ENCRYPTION_KEY", newKey, "DECRYPTION_KEYS", oldKey)

		// Refused as long as a server may run that could not read what it makes.
		if got := call(t, newEnv, rekey...); got.code != 1 || !strings.Contains(got.stderr, "no server has started with this ENCRYPTION_KEY yet") {
			t.Errorf("rekey before a restart: %+v", got)
		}
		if got := call(t, with("ENCRYPTION_KEY", newKey), append(rekey, "--offline")...); got.code != 1 || !strings.Contains(got.stderr, "ENCRYPTION_KEY is not the key") {
			t.Errorf("rekey without the old key: %+v", got)
		}

		// Two servers, restarted one after the other.
		second := start(oldKey, newKey)
		first.stop(t)
		servers := []*program{start(newKey, oldKey)}
		second.stop(t)
		servers = append(servers, start(newKey, oldKey))
		load := startWorkload(t, []string{"openai", "anthropic", "google"}, servers...)
		kills := 0
		var outcome string
		for pause := 60 * time.Millisecond; outcome == ""; pause += 60 * time.Millisecond {
			if kills == 5 {
				pause = waitAtMost
			}
			cmd := command(t, newEnv, rekey...)
			var out, errors lockedBuffer
			cmd.Stdout, cmd.Stderr = &out, &errors
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("rekey: %v\n%s%s", err, out.String(), errors.String())
				}
				outcome = out.String()
			case <-time.After(pause):
				_ = cmd.Process.Signal([]os.Signal{syscall.SIGKILL, syscall.SIGTERM}[kills%2])
				if err := <-ended; err == nil { // it was done before the signal came
					outcome = out.String()
				}
				kills++
			}
		}
		load.end()
		t.Logf("%d kills, %d replaces, %d resolves; the last run said: %s", kills, load.replaced.Load(), load.resolved.Load(), outcome)
		if load.replaced.Load() == 0 || load.resolved.Load() == 0 {
			t.Error("there was no load")
		}
		if !strings.Contains(outcome, "ENCRYPTION_KEY alone is needed from now on") {
			t.Errorf("rekey: %s", outcome)
		}

		// The new key alone opens everything, and the old one nothing.
		if got := must(t, with("ENCRYPTION_KEY", newKey), "keys", "verify", "--database", target); got != fmt.Sprintf("%d stored keys can be decrypted with ENCRYPTION_KEY\n", stored+3) {
			t.Errorf("verify with the new key: %s", got)
		}
		if got := call(t, with(), "keys", "verify", "--database", target); got.code != 1 || !strings.Contains(got.stderr, fmt.Sprintf("%d of %d stored keys cannot be decrypted", stored+3, stored+3)) {
			t.Errorf("verify with the old key: %s", got.stderr)
		}
		if got := call(t, with(), "serve", "--database", target, "--listen", "127.0.0.1:0"); got.code != 1 || !strings.Contains(got.stderr, "ENCRYPTION_KEY is not the key") {
			t.Errorf("serve with the old key: %+v", got)
		}
		last := start(newKey, "")
		for _, providerID := range []string{"openai", "anthropic", "google"} {
			if r, err := last.resolve(providerID); err != nil || !strings.Contains(r.body, "sk-of-"+providerID) {
				t.Errorf("resolve with the new key: %+v %v", r, err)
			}
		}
	})
}

// The key is changed by the guide's steps for a secrets file beside the database.
func TestRekeyWithSecretsFile(t *testing.T) {
	t.Parallel()
	target := "sqlite:" + filepath.Join(t.TempDir(), "keys.db")
	file := strings.TrimPrefix(target, "sqlite:") + ".secrets"
	doc := write(t, "b.json", bootstrap)
	p := serve(t, nil, "--database", target, "--bootstrap", doc)
	if r := p.do(t, http.MethodPost, keysPath, `{"providerId":"openai","apiKey":"sk-secret-000000001"}`, "Cookie", p.signIn(t, email, "passw0rd").cookies); r.status != http.StatusOK {
		t.Fatalf("%+v", r)
	}
	p.stop(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "ENCRYPTION_KEY=")
	first, rest, _ := strings.Cut(rest, "\n")
	writeFile := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeFile("ENCRYPTION_KEY=" + newKey + "\nDECRYPTION_KEYS=" + first + "\n" + rest)
	serve(t, nil, "--database", target).stop(t)
	if got := must(t, nil, "keys", "verify", "--database", target); !strings.Contains(got, "1 of them need DECRYPTION_KEYS") {
		t.Errorf("verify before: %s", got)
	}
	if got := must(t, nil, "keys", "rekey", "--database", target); !strings.HasPrefix(got, "encrypted 1 key anew") {
		t.Errorf("rekey: %s", got)
	}
	if got := must(t, nil, "keys", "rekey", "--database", target); got != "encrypted 0 keys anew; ENCRYPTION_KEY alone is needed from now on, remove DECRYPTION_KEYS\n" {
		t.Errorf("rekey again: %s", got)
	}
	writeFile("ENCRYPTION_KEY=" + newKey + "\n" + rest)
	if got := must(t, nil, "keys", "rekey", "--database", target); !strings.HasPrefix(got, "nothing to do: every stored key is encrypted with ENCRYPTION_KEY already, and DECRYPTION_KEYS is not set") {
		t.Errorf("rekey without the old key: %s", got)
	}
	if got := must(t, nil, "keys", "verify", "--database", target); got != "1 stored key can be decrypted with ENCRYPTION_KEY\n" {
		t.Errorf("verify after: %s", got)
	}
	serve(t, nil, "--database", target).stop(t)
}

// keys list shows masks and what cannot be read, never a secret; verify fails on
// the latter; where the key is lost, rekey gives them up on demand only.
func TestKeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, target string) {
		doc := write(t, "b.json", bootstrap)
		p := serve(t, secrets, "--database", target, "--bootstrap", doc)
		cookies := p.signIn(t, email, "passw0rd").cookies
		for _, body := range []string{`{"providerId":"openai","apiKey":"sk-secret-000000001","name":"evil \u001b[31m name"}`, `{"providerId":"anthropic","apiKey":"sk-secret-000000002"}`} {
			if r := p.do(t, http.MethodPost, keysPath, body, "Cookie", cookies); r.status != http.StatusOK {
				t.Fatalf("%+v", r)
			}
		}
		p.stop(t)
		list := must(t, secrets, "keys", "list", "--database", target)
		for _, want := range []string{byok.Mask("sk-secret-000000001"), byok.Mask("sk-secret-000000002"), "current", workspace, "openai"} {
			if !strings.Contains(list, want) {
				t.Errorf("keys list has no %s:\n%s", want, list)
			}
		}
		if strings.Contains(list, "sk-secret-") || strings.Contains(list, "\x1b") {
			t.Errorf("keys list shows a secret or an escape sequence:\n%s", list)
		}
		if got := must(t, secrets, "keys", "list", "--workspace", "other", "--database", target, "-o", "json"); got != "" {
			t.Errorf("keys list of another workspace: %s", got)
		}
		if got := must(t, secrets, "keys", "verify", "--database", target); got != "2 stored keys can be decrypted with ENCRYPTION_KEY\n" {
			t.Errorf("keys verify: %s", got)
		}
		lost := with("ENCRYPTION_KEY", newKey)
		if got := must(t, lost, "keys", "list", "--database", target, "-o", "json"); strings.Count(got, `"state":"unreadable"`) != 2 {
			t.Errorf("keys list with another key: %s", got)
		}
		if got := call(t, lost, "keys", "verify", "--database", target); got.code != 1 || strings.Count(got.stdout, "is unreadable") != 2 {
			t.Errorf("keys verify with another key: %+v", got)
		}
		if got := call(t, lost, "keys", "rekey", "--offline", "--database", target); got.code != 1 || !strings.Contains(got.stderr, "--accept-loss") {
			t.Errorf("keys rekey with another key: %+v", got)
		}
		if got := must(t, secrets, "keys", "verify", "--database", target); !strings.HasPrefix(got, "2 stored keys can") {
			t.Errorf("after a refused rekey: %s", got)
		}
		if got := call(t, lost, "keys", "rekey", "--accept-loss", "--database", target); got.code != 0 || !strings.Contains(got.stdout, "gave up 2 stored keys, which cannot be decrypted with any of the keys: upload them again") {
			t.Errorf("keys rekey --accept-loss: %+v", got)
		}
		serve(t, lost, "--database", target).stop(t)
	})
}

// A backup taken while the server writes is sound, is the database of one
// moment, and serves its keys when it is restored.
func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, copied := "sqlite:"+filepath.Join(dir, "keys.db"), filepath.Join(dir, "backup.db")
	doc := write(t, "b.json", bootstrap)
	p := serve(t, secrets, "--database", target, "--bootstrap", doc)
	load := startWorkload(t, []string{"openai", "anthropic"}, p)
	before := load.replaced.Load()
	got := must(t, nil, "backup", copied, "--database", target)
	for load.replaced.Load() == before && !t.Failed() { // the load goes on
		time.Sleep(time.Millisecond)
	}
	load.end()
	if !strings.Contains(got, "cannot be read without ENCRYPTION_KEY") {
		t.Errorf("backup: %s", got)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
	if got := call(t, nil, "backup", copied, "--database", target); got.code != 1 || !strings.Contains(got.stderr, "exists already") {
		t.Errorf("backup over a backup: %+v", got)
	}
	missing := filepath.Join(dir, "missing")
	if got := call(t, nil, "backup", filepath.Join(missing, "x.db"), "--database", target); got.code != 1 || !strings.Contains(got.stderr, "the folder "+missing+" does not exist; create it first") {
		t.Errorf("backup to a folder that does not exist: %+v", got)
	}
	db, err := sql.Open("sqlite", "file:"+copied+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	var keys int
	if err := db.QueryRow("SELECT count(*) FROM workspace_byok_keys").Scan(&keys); err != nil || keys != 2 {
		t.Errorf("the backup has %d keys (%v), want 2", keys, err)
	}
	_ = db.Close()
	restored := serve(t, secrets, "--database", "sqlite:"+copied)
	if r, err := restored.resolve("openai"); err != nil || !strings.Contains(r.body, "sk-of-openai-") {
		t.Errorf("the restored backup serves %+v %v", r, err)
	}
	if got := restored.signIn(t, email, "passw0rd").status; got != http.StatusOK {
		t.Errorf("sign-in to the restored backup: %d", got)
	}
}

// makeCertificate writes a certificate and its key and returns their paths.
func makeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "byok"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// With --admin-listen, /reference/ is served there and nowhere else; with TLS,
// both addresses speak HTTPS only and cookies are Secure.
func TestListeners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	makeCertificate(t, certFile, keyFile, 1)
	p := serve(t, secrets, "--database", "sqlite::memory:", "--bootstrap", write(t, "b.json", bootstrap),
		"--admin-listen", "127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile)
	if !strings.HasPrefix(p.url, "https://") || !strings.HasPrefix(p.adminURL, "https://") || p.url == p.adminURL {
		t.Fatalf("listening on %s and %s", p.url, p.adminURL)
	}
	for _, path := range []string{"health", "metrics", "resolve"} {
		method, body := http.MethodGet, ""
		if path == "resolve" {
			method, body = http.MethodPost, `{"workspaceId":"w","providerId":"openai"}`
		}
		authorization := "Bearer " + internalSecret
		if r := p.do(t, method, p.url+"/reference/"+path, body, "Authorization", authorization); r.status != http.StatusNotFound || !strings.Contains(r.body, "could not be found") {
			t.Errorf("%s beside the API: %d %s", path, r.status, r.body)
		}
		if r := p.do(t, method, p.adminURL+"/reference/"+path, body, "Authorization", authorization); r.status != http.StatusOK {
			t.Errorf("%s on the admin address: %d %s", path, r.status, r.body)
		}
	}
	if r := p.do(t, http.MethodGet, p.adminURL+keysPath, ""); r.status != http.StatusNotFound {
		t.Errorf("the API on the admin address: %d %s", r.status, r.body)
	}
	in := p.signIn(t, email, "passw0rd")
	if in.status != http.StatusOK || !strings.Contains(in.cookies, "__Secure-better-auth.session_token=") {
		t.Errorf("sign-in: %+v", in)
	}
	if r := p.do(t, http.MethodGet, keysPath, "", "Cookie", in.cookies); r.status != http.StatusOK {
		t.Errorf("list: %+v", r)
	}
	if r, err := p.try(http.MethodGet, "http"+strings.TrimPrefix(p.url, "https")+keysPath, ""); err == nil && r.status == http.StatusOK {
		t.Errorf("plain HTTP: %+v", r)
	}
}

// With TLS, the file of --env-file names the host that the certificate is for.
func TestEnvFileWithTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, envFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "server.env")
	makeCertificate(t, certFile, keyFile, 1)
	p := serve(t, secrets, "--database", "sqlite::memory:", "--bootstrap", write(t, "b.json", bootstrap), "--env-file", envFile,
		"--app-url", "https://byok.example.com", "--tls-cert", certFile, "--tls-key", keyFile)
	if got := waitForEnvironment(t, envFile, p)["BYOK_ENDPOINT"]; got != "https://byok.example.com" {
		t.Errorf("BYOK_ENDPOINT is %q", got)
	}
}

// What exposes more than it needs to is said at the start, and nothing else is.
func TestWarnings(t *testing.T) {
	t.Parallel()
	readable := write(t, "b.json", bootstrap)
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		env   map[string]string
		flags []string
		want  []string
	}{
		{"nothing", secrets, nil, nil},
		{"secrets of its own making", nil, nil, nil},
		{"all addresses", secrets, []string{"--listen", "0.0.0.0:0"}, []string{"travel unencrypted to 0.0.0.0:0", "/reference/resolve"}},
		{"behind a proxy", secrets, []string{"--listen", "0.0.0.0:0", "--app-url", "https://byok.example.com", "--admin-listen", "127.0.0.1:0"}, nil},
		{"without authentication", secrets, []string{"--disable-auth"}, nil},
		{"without authentication for everybody", secrets, []string{"--disable-auth", "--listen", ":0", "--app-url", "https://x.example", "--admin-listen", "127.0.0.1:0"}, []string{"--disable-auth on :0"}},
		{"zeros", with("ENCRYPTION_KEY", strings.Repeat("0", 64)), nil, []string{"ENCRYPTION_KEY consists of zeros only"}},
		{"few digits", with("ENCRYPTION_KEY", strings.Repeat("ab", 32)), nil, []string{"ENCRYPTION_KEY consists of 2 different characters"}},
		{"short", with("BETTER_AUTH_SECRET", "secret", "INTERNAL_API_SECRET", "internal"), nil, []string{"BETTER_AUTH_SECRET has 6 characters", "INTERNAL_API_SECRET has 8 characters"}},
		{"a readable file", secrets, []string{"--bootstrap", readable}, []string{"chmod 600 " + readable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, tt.env, append([]string{"--database", "sqlite:" + filepath.Join(t.TempDir(), "keys.db")}, tt.flags...)...)
			p.stop(t)
			var warnings []string
			for line := range strings.Lines(p.log.String()) {
				if strings.Contains(line, `"level":"WARN"`) {
					warnings = append(warnings, line)
				}
			}
			if len(warnings) != len(tt.want) {
				t.Fatalf("warnings %q, want %q", warnings, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(warnings[i], want) {
					t.Errorf("warning %s, want %s", warnings[i], want)
				}
			}
		})
	}
}

// --log-level decides about requests, never about the audit log; scrapes are
// debug.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]struct{ requests, scrapes bool }{"debug": {true, true}, "info": {true, false}, "warn": {false, false}, "error": {false, false}} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			p := command(t, secrets, "serve", "--listen", "127.0.0.1:0", "--database", "sqlite::memory:",
				"--bootstrap", write(t, "b.json", bootstrap), "--env-file", "env", "--log-level", level)
			var log lockedBuffer
			p.Stderr = &log
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			server := &program{cmd: p, ended: make(chan struct{}), client: http.DefaultClient}
			go func() { _ = p.Wait(); close(server.ended) }()
			t.Cleanup(server.kill)
			server.url = waitForEnvironment(t, filepath.Join(p.Dir, "env"), server)["BYOK_ENDPOINT"]
			server.do(t, http.MethodGet, "/reference/health", "")
			server.do(t, http.MethodGet, "/reference/metrics", "")
			server.signIn(t, email, "passw0rd")
			server.signIn(t, email, "wrong passw0rd")
			server.stop(t)
			said := log.String()
			for what, shown := range map[string]bool{
				"msg=audit action=sign-in ": true, "msg=audit action=refused ": true,
				"path=/api/auth/sign-in/email": want.requests, "path=/reference/health": want.scrapes, "path=/reference/metrics": want.scrapes,
			} {
				if strings.Contains(said, what) != shown {
					t.Errorf("--log-level %s: %q is there: %t, want %t\n%s", level, what, !shown, shown, said)
				}
			}
		})
	}
}
