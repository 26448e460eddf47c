//go:build unix

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/figures"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/pgtest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/transcripts"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// differsOnPurpose lists the recorded responses that are accidents of the real
// server, on which no client can rely, and the responses in their place.
var differsOnPurpose = map[string]string{
	"get-workspace-nul":     "a workspace ID with U+0000 names nothing: 404, not a 500 that quotes the failed SQL",
	"lock-timeout":          "the 500 says that nothing was changed, instead of quoting the failed SQL and its parameters",
	"method-uppercase-path": "a short HTML 404 page instead of the real one's 6921 bytes, under the same status and headers",
}

// notOn lists what a backend cannot be brought to.
var notOn = map[string]map[string]string{
	"sqlite": {
		"lock-timeout":             "SQLite has no advisory lock that another program could hold",
		"lock-other-provider-free": "as lock-timeout: there is no lock on one pool to begin with",
	},
}

func TestReplay(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "sqlite::memory:" },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
		"adopted":  adoptedURL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entries, err := transcripts.Baseline()
			if err != nil {
				t.Fatal(err)
			}
			target(t) // skips all of it where there is no such database
			var tally tally
			for _, deployment := range []struct {
				name   string
				groups string
				change func(*server.Config)
			}{
				{"self-hosted", "get archived post-add mask apikey body perm update cap concurrent delete method", nil},
				{"organizations", "inherited+org", nil},
				{"hosted", "org-hosted", func(c *server.Config) { c.Hosted = true }},
				{"auth", "auth", func(c *server.Config) { c.Development = false }},
				{"https", "auth-https", func(c *server.Config) { c.AppURL = "https://sim.test" }},
				{"disabled", "auth-disabled", func(c *server.Config) { c.DisableAuth = true }},
				{"modules", "rotation rotation-org encryption", func(c *server.Config) { c.Hosted = true }},
			} {
				t.Run(deployment.name, func(t *testing.T) {
					r := start(t, name, target(t), deployment.change)
					r.selfHostedTarget = target
					for groups := range strings.FieldsSeq(deployment.groups) {
						r.reset(t)
						for group := range strings.SplitSeq(groups, "+") {
							for _, e := range transcripts.Group(entries, group) {
								tally.add(t, name, e.ID, r.replay(t, e))
							}
						}
					}
				})
			}
			figures.Report("replay against the server, %s: %d of %d recorded exchanges match, %d different on purpose, %d not possible", name,
				tally.match, len(entries), tally.better, tally.impossible)
			if sum := tally.match + tally.better + tally.impossible + tally.wrong; sum != len(entries) {
				t.Errorf("replayed %d entries of %d: a group is missing", sum, len(entries))
			}
		})
	}
}

type tally struct{ match, better, impossible, wrong int }

func (n *tally) add(t *testing.T, backend, id, difference string) {
	t.Helper()
	_, better := differsOnPurpose[id]
	_, impossible := notOn[backend][id]
	switch {
	case impossible:
		n.impossible++
	case better && difference == "":
		n.wrong++
		t.Errorf("%s matches: take it out of differsOnPurpose", id)
	case better:
		n.better++
	case difference != "":
		n.wrong++
		t.Errorf("%s: %s", id, difference)
	default:
		n.match++
	}
}

// replayer replays entries on one server. vars are the bound placeholders.
type replayer struct {
	backend string
	server  *server.Server
	sealer  *seal.Sealer
	client  *http.Client
	clock   *atomic.Int64
	vars    map[string]string
	rows    int
	// selfHostedTarget is another database of the same backend.
	selfHostedTarget func(*testing.T) string
}

const encryptionKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

var people = []string{"admin", "writer", "reader", "stranger"}

func start(t *testing.T, backend, target string, change func(*server.Config)) *replayer {
	t.Helper()
	r := &replayer{backend: backend, clock: new(atomic.Int64)}
	cfg := server.Config{
		Database: target, Development: true, PasswordCost: 2,
		Secrets: server.Secrets{EncryptionKey: encryptionKey, AuthSecret: "secret", InternalSecret: "internal"},
		Now:     func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.server, err = server.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	if r.sealer, err = seal.New(encryptionKey); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	r.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return r
}

// reset gives the next group fresh people, workspaces and an organization.
func (r *replayer) reset(t *testing.T) {
	t.Helper()
	r.vars = map[string]string{"origin": r.server.URL(), "password": "Passw0rd!Passw0rd", "unknown_workspace": uuid(), "organization": uuid()}
	r.rows++
	doc := &server.Bootstrap{}
	for _, who := range people {
		email := fmt.Sprintf("%s-%d@example.com", who, r.rows)
		r.vars["email:"+who] = email
		doc.Users = append(doc.Users, server.BootstrapUser{Email: email, Password: r.vars["password"], Name: strings.ToUpper(who[:1]) + who[1:]})
	}
	organization := server.BootstrapOrganization{ID: r.vars["organization"], Name: "O"}
	for who, role := range map[string]string{"admin": "owner", "writer": "admin", "reader": "member"} {
		organization.Members = append(organization.Members, server.BootstrapMember{Email: r.vars["email:"+who], Role: role})
	}
	doc.Organizations = append(doc.Organizations, organization)
	for _, name := range []string{"workspace", "workspace2", "workspace_of_other"} {
		r.vars[name] = uuid()
		doc.Workspaces = append(doc.Workspaces, server.BootstrapWorkspace{ID: r.vars[name], Name: name, Owner: r.vars["email:admin"]})
	}
	doc.Workspaces[0].Members = []server.BootstrapPermission{
		{Email: r.vars["email:writer"], Permission: "write"}, {Email: r.vars["email:reader"], Permission: "read"},
	}
	if err := r.server.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	for _, who := range people {
		r.signIn(t, who)
	}
}

// signIn binds the user and a session of theirs.
func (r *replayer) signIn(t *testing.T, who string) {
	t.Helper()
	user, err := r.server.Access().FindUser(t.Context(), r.vars["email:"+who])
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.server.Access().StartSession(t.Context(), user, access.SessionLifetime, "127.0.0.1", "wire-probe/1")
	if err != nil {
		t.Fatal(err)
	}
	r.bindSession(t, who, r.server.Access().SignCookie(in.Session.Token))
	cache, err := r.server.Access().CacheSession(in, access.CacheLifetime)
	if err != nil {
		t.Fatal(err)
	}
	r.vars["user:"+who], r.vars["session_data:"+who] = user.ID, cache
}

func (r *replayer) bindSession(t *testing.T, who, cookie string) {
	t.Helper()
	decoded := access.ParseCookies([]string{"c=" + cookie})["c"]
	r.vars["session:"+who], r.vars["session-decoded:"+who] = cookie, decoded
	r.vars["token:"+who], _, _ = strings.Cut(decoded, ".")
}

func uuid() string { return access.NewUUID(randomReader) }

// sql changes the database as the setup of an entry says.
func (r *replayer) sql(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := r.server.DB().Write.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (r *replayer) setCreatedAt(t *testing.T, at string, ids ...string) {
	t.Helper()
	when, err := time.Parse("2006-01-02 15:04:05.999999", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		r.sql(t, "UPDATE workspace_byok_keys SET created_at = $1 WHERE id = $2", database.At(when), id)
	}
}

// setUp does what the setup of an entry says in words.
func (r *replayer) setUp(t *testing.T, id string) {
	t.Helper()
	v := r.vars
	switch id {
	case "get-tie-created-at":
		r.setCreatedAt(t, "2026-01-02 03:04:05.678", v["key2"], v["key4"], v["key6"])
	case "get-timestamp-whole-second":
		r.setCreatedAt(t, "2026-01-02 03:04:05", v["key2"])
	case "get-timestamp-micros":
		r.setCreatedAt(t, "2026-01-02 03:04:05.123987", v["key2"])
	case "get-created-by-null":
		// The recorded list shows that key3 had been made undecryptable, too.
		r.sql(t, "UPDATE workspace_byok_keys SET encrypted_api_key = 'garbage' WHERE id = $1", v["key3"])
		r.sql(t, "UPDATE workspace_byok_keys SET created_by = NULL WHERE id = $1", v["key7"])
	case "get-unknown-stored-provider":
		r.sql(t, "UPDATE workspace_byok_keys SET provider_id = 'zzz-legacy' WHERE id = $1", v["key5"])
	case "archived-get":
		r.sql(t, "UPDATE workspace SET archived_at = $1 WHERE id = $2", database.At(time.Now()), v["workspace"])
	case "post-as-second-admin":
		if err := r.server.Access().PutPermission(t.Context(), v["workspace"], v["user:stranger"], access.Admin); err != nil {
			t.Fatal(err)
		}
	case "upd-corrupt-row":
		r.sql(t, "UPDATE workspace_byok_keys SET encrypted_api_key = 'garbage' WHERE id = $1", v["key2"])
	case "org-list-rows":
		for name, row := range map[string][2]string{"orgkey1": {"anthropic", "o"}, "orgkey2": {"openai", ""}} {
			v[name] = "org" + name
			r.sql(t, `INSERT INTO organization_byok_keys (id, organization_id, provider_id, encrypted_api_key, name, created_by, created_at, updated_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`, v[name], v["organization"], row[0], r.sealer.Seal("sk-test-0000000001"),
				orNil(row[1]), orNil(map[string]string{"orgkey1": v["user:admin"]}[name]), database.At(time.Now()))
		}
	case "org-inherited-self-hosted", "hinh-all":
		r.sql(t, "UPDATE workspace SET organization_id = $1 WHERE id = $2", v["organization"], v["workspace"])
	case "signup":
		// The group begins without a user of this address.
		r.sql(t, `DELETE FROM workspace WHERE owner_id = $1`, v["user:admin"])
		r.sql(t, `DELETE FROM "user" WHERE email = $1`, v["email:admin"])
		delete(v, "user:admin")
		delete(v, "token:admin")
	case "cookie-signed-decoded", "signin-cookie-no-origin":
		// Owns the workspace that the deleted user owned.
		if err := r.server.Access().PutWorkspace(t.Context(), access.Workspace{ID: v["workspace"], Name: "w", OwnerID: v["user:admin"]}); err != nil {
			t.Fatal(err)
		}
		r.signIn(t, "admin")
	case "signin-uppercase-email":
	case "session-expired":
		r.sql(t, "UPDATE session SET expires_at = $1 WHERE token = $2", database.At(time.Now().Add(time.Duration(r.clock.Load())-time.Minute)), v["token:admin"])
	case "banned-user-existing-session":
		r.signIn(t, "admin")
		r.sql(t, `UPDATE "user" SET banned = $1 WHERE id = $2`, true, v["user:admin"])
	case "signin-burst-2":
		for range 3 {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL()+"/api/auth/sign-in/email", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := r.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
		}
	case "noauth-get-own":
		v["user:anonymous"] = access.AnonymousID
		if err := r.server.Access().PutWorkspace(t.Context(), access.Workspace{ID: v["workspace"], Name: "w", OwnerID: access.AnonymousID}); err != nil {
			t.Fatal(err)
		}
	case "session-revoked-foreign-cache", "signout-no-origin":
		r.signIn(t, "admin")
	case "https-secure-cookie":
		r.signIn(t, "admin")
	}
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// replay returns how the response differs from the recorded one, or "".
func (r *replayer) replay(t *testing.T, e transcripts.Entry) string {
	t.Helper()
	if _, impossible := notOn[r.backend][e.ID]; impossible {
		return ""
	}
	if e.Request.Method == "CALL" {
		return r.replayCall(t, e)
	}
	if e.ID != "signin-burst-xff" {
		r.clock.Add(int64(11 * time.Second)) // the recorder waited for the rate limit, too
	}
	r.setUp(t, e.ID)
	if strings.HasPrefix(e.ID, "concurrent-20-adds") {
		return r.replayConcurrent(t, e)
	}
	release := func() {}
	if e.ID == "lock-timeout" {
		r.reset(t)
		release = r.holdLock(t)
	}
	status, header, body, err := r.send(t, e)
	release()
	if err != nil {
		return err.Error()
	}
	return r.compare(t, e, status, header, body)
}

var placeholder = regexp.MustCompile(`\{([A-Za-z0-9_-]+(?::[A-Za-z0-9_-]+)?)\}`)

func (r *replayer) expand(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		if bound, ok := r.vars[p[1:len(p)-1]]; ok {
			return bound
		}
		return p
	})
}

// requestBody is the body of an entry; a few are described in words.
func (r *replayer) requestBody(e transcripts.Entry) ([]byte, error) {
	padded := func(size int) []byte {
		head, tail := `{"providerId":"openai","apiKey":"`, `"}`
		return []byte(head + strings.Repeat("A", size-len(head)-len(tail)) + tail)
	}
	switch e.ID {
	case "apikey-64k":
		return []byte(`{"providerId":"openai","apiKey":"` + strings.Repeat("A", 65536) + `"}`), nil
	case "apikey-1m":
		return []byte(`{"providerId":"openai","apiKey":"` + strings.Repeat("A", 1048576) + `"}`), nil
	case "body-exact-limit":
		return padded(10485760), nil
	case "body-limit-plus-1":
		return padded(10485761), nil
	case "body-limit-11m-chunked":
		return padded(11534336), nil
	case "signin-uppercase-email":
		return []byte(r.expand(`{"email":"` + strings.ToUpper(r.vars["email:admin"]) + `","password":"{password}"}`)), nil
	}
	body, err := e.Request.Bytes()
	if e.Request.BodyBase64 == "" {
		body = []byte(r.expand(string(body)))
	}
	return body, err
}

func (r *replayer) send(t *testing.T, e transcripts.Entry) (int, http.Header, []byte, error) {
	t.Helper()
	body, err := r.requestBody(e)
	if err != nil {
		return 0, nil, nil, err
	}
	var reader io.Reader
	if e.Request.Body != nil || e.Request.BodyBase64 != "" {
		reader = bytes.NewReader(body)
		if e.Request.Headers["Transfer-Encoding"] == "chunked" {
			reader = io.MultiReader(reader) // hides the length
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), e.Request.Method, r.server.URL()+r.expand(e.Request.Path), reader)
	if err != nil {
		return 0, nil, nil, err
	}
	for name, v := range e.Request.Headers {
		if name != "Transfer-Encoding" && name != "Content-Length" {
			request.Header.Set(name, r.expand(v))
		}
	}
	request.Header.Set("User-Agent", "wire-probe/1")
	if e.ID == "user-agent-absent" {
		request.Header["User-Agent"] = []string{""}
	}
	response, err := r.client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if len(response.TransferEncoding) > 0 {
		response.Header.Set("Transfer-Encoding", response.TransferEncoding[0])
	}
	return response.StatusCode, response.Header, text, err
}

var (
	requestIDForm = regexp.MustCompile(`^[0-9a-f]{8}$`)
	cookieValue   = regexp.MustCompile(`^([^=]+=)[^;]*`)
)

// unordered are the lists whose order hangs on random IDs; the order is then
// checked by its rule alone.
var unordered = []string{"get-tie-created-at", "get-timestamp-whole-second", "get-timestamp-micros", "get-created-by-null", "get-unknown-stored-provider"}

func (r *replayer) compare(t *testing.T, e transcripts.Entry, status int, header http.Header, body []byte) string {
	t.Helper()
	if status != e.Response.Status {
		return fmt.Sprintf("status %d, want %d; body %.300s", status, e.Response.Status, body)
	}
	if problem := r.compareHeader(e, header); problem != "" {
		return problem
	}
	want, err := e.Response.Text()
	if err != nil {
		return err.Error()
	}
	switch e.ID {
	case "https-signup":
		r.bindSessionFrom(t, header, "admin")
		var response struct{ User struct{ ID string } }
		if err := json.Unmarshal(body, &response); err != nil || response.User.ID == "" {
			return fmt.Sprintf("body %s", body)
		}
		return ""
	case "concurrent-list":
		var list struct{ Keys []any }
		if err := json.Unmarshal(body, &list); err != nil || len(list.Keys) != 10 {
			return fmt.Sprintf("%d keys, want 10", len(list.Keys))
		}
		return ""
	}
	if slices.Contains(unordered, e.ID) {
		if problem := r.checkOrder(t, e.ID, body); problem != "" {
			return problem
		}
		want, body = sortKeys(r.expand(want)), []byte(sortKeys(string(body)))
	}
	if problem := r.match(want, string(body), header.Get("X-Request-Id")); problem != "" {
		return problem
	}
	if e.ID == "signup" {
		r.bindSessionFrom(t, header, "admin")
	}
	return ""
}

func (r *replayer) bindSessionFrom(t *testing.T, header http.Header, who string) {
	t.Helper()
	for _, c := range header.Values("Set-Cookie") {
		pair, _, _ := strings.Cut(c, ";")
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasSuffix(name, "session_token") {
			r.bindSession(t, who, value)
		}
	}
}

func (r *replayer) compareHeader(e transcripts.Entry, header http.Header) string {
	want := map[string]string{}
	var cookies []string
	for name, raw := range e.Response.Headers {
		if name == "set-cookie-names" {
			if err := json.Unmarshal(raw, &cookies); err != nil {
				return err.Error()
			}
			continue
		}
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return err.Error()
		}
		want[name] = r.expand(text)
	}
	mediaType, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	wantType, _, _ := strings.Cut(want["content-type"], ";")
	if mediaType != wantType {
		return fmt.Sprintf("media type %q, want %q", mediaType, wantType)
	}
	if _, has := want["x-request-id"]; has != requestIDForm.MatchString(header.Get("X-Request-Id")) || (!has && header.Get("X-Request-Id") != "") {
		return fmt.Sprintf("x-request-id %q", header.Get("X-Request-Id"))
	}
	for _, name := range []string{"location", "x-retry-after", "cache-control"} {
		if header.Get(name) != want[name] {
			return fmt.Sprintf("%s %q, want %q", name, header.Get(name), want[name])
		}
	}
	// The length of a page of our own is our own; 204 has neither.
	if e.ID != "method-uppercase-path" && e.Response.Status != http.StatusNoContent {
		for _, name := range []string{"content-length", "transfer-encoding"} {
			if header.Get(name) != want[name] {
				return fmt.Sprintf("%s %q, want %q", name, header.Get(name), want[name])
			}
		}
	}
	var names, shapes []string
	for _, c := range header.Values("Set-Cookie") {
		name, _, _ := strings.Cut(c, "=")
		names, shapes = append(names, name), append(shapes, cookieValue.ReplaceAllString(c, "$1<value>"))
	}
	if !slices.Equal(names, cookies) {
		return fmt.Sprintf("cookies %q, want %q", names, cookies)
	}
	if len(e.Response.SetCookie) > 0 && !slices.Equal(shapes, e.Response.SetCookie) {
		return fmt.Sprintf("cookies %q, want %q", shapes, e.Response.SetCookie)
	}
	return ""
}

// match compares a body byte for byte, but for placeholders: bound ones stand
// for their value, {ts} and {requestId} for their form, and the others are
// bound by what they match.
func (r *replayer) match(want, got, requestID string) string {
	want = r.expand(want)
	var pattern strings.Builder
	var names []string
	last := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(want, -1) {
		pattern.WriteString(regexp.QuoteMeta(want[last:at[0]]))
		switch name := want[at[2]:at[3]]; name {
		case "ts":
			pattern.WriteString(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
		case "requestId":
			pattern.WriteString(regexp.QuoteMeta(requestID))
		case "token", "id":
			pattern.WriteString(`[A-Za-z0-9]{32}`)
		default:
			form := `[A-Za-z0-9_-]{21}`
			if strings.HasPrefix(name, "user:") || strings.HasPrefix(name, "token:") {
				form = `[A-Za-z0-9]{32}`
			}
			names = append(names, name)
			pattern.WriteString("(" + form + ")")
		}
		last = at[1]
	}
	pattern.WriteString(regexp.QuoteMeta(want[last:]))
	found := regexp.MustCompile(`^` + pattern.String() + `$`).FindStringSubmatch(got)
	if found == nil {
		return fmt.Sprintf("body\n got %.2000s\nwant %.2000s", got, want)
	}
	for i, name := range names {
		r.vars[name] = found[i+1]
	}
	return ""
}

// sortKeys sorts the entries of a list by their text, times left out.
func sortKeys(body string) string {
	inner := strings.TrimSuffix(strings.TrimPrefix(body, `{"keys":[{`), `}]}`)
	keys := strings.Split(inner, "},{")
	slices.Sort(keys)
	return `{"keys":[{` + strings.Join(keys, "},{") + `}]}`
}

// checkOrder checks a list against the rule: provider ID, created at, ID; and
// the times that the setups made.
func (r *replayer) checkOrder(t *testing.T, id string, body []byte) string {
	t.Helper()
	var list struct {
		Keys []struct{ ID, ProviderID, CreatedAt string }
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return err.Error()
	}
	wantAt := map[string]string{"get-timestamp-whole-second": "2026-01-02T03:04:05.000Z", "get-timestamp-micros": "2026-01-02T03:04:05.123Z"}[id]
	for i, k := range list.Keys {
		if i > 0 {
			p := list.Keys[i-1]
			if p.ProviderID+"\x00"+p.CreatedAt+"\x00"+p.ID >= k.ProviderID+"\x00"+k.CreatedAt+"\x00"+k.ID {
				return fmt.Sprintf("%v stands before %v", p, k)
			}
		}
		if k.ID == r.vars["key2"] && wantAt != "" && k.CreatedAt != wantAt {
			return fmt.Sprintf("createdAt %s, want %s", k.CreatedAt, wantAt)
		}
	}
	return ""
}

// replayConcurrent sends 20 adds at once and counts the responses.
func (r *replayer) replayConcurrent(t *testing.T, e transcripts.Entry) string {
	t.Helper()
	if strings.HasSuffix(e.ID, "two-providers") {
		r.reset(t)
	}
	var want []struct {
		Count, Status int
		Body          string
	}
	if err := json.Unmarshal(e.Response.Body, &want); err != nil {
		return err.Error()
	}
	type outcome struct {
		status int
		body   string
	}
	outcomes := make(chan outcome)
	for i := range 20 {
		providerID := "openai"
		if strings.HasSuffix(e.ID, "two-providers") && i%2 == 1 {
			providerID = "anthropic"
		}
		body := fmt.Sprintf(`{"providerId":%q,"apiKey":"sk-conc-%08d","name":"c%d"}`, providerID, i, i)
		add := transcripts.Entry{Request: transcripts.Request{Method: http.MethodPost, Path: "/api/workspaces/{workspace}/byok-keys", Body: &body,
			Headers: map[string]string{"Cookie": "better-auth.session_token={session:admin}"}}}
		go func() {
			status, _, text, err := r.send(t, add)
			if err != nil {
				text = []byte(err.Error())
			}
			outcomes <- outcome{status, string(text)}
		}()
	}
	got := map[int]int{}
	for range 20 {
		o := <-outcomes
		got[o.status]++
		for _, w := range want {
			if w.Status == o.status && w.Status != http.StatusOK && w.Body != o.body {
				return fmt.Sprintf("body %s, want %s", o.body, w.Body)
			}
		}
	}
	counts := map[int]int{}
	for _, w := range want {
		counts[w.Status] = w.Count
	}
	if !maps.Equal(got, counts) {
		return fmt.Sprintf("responses by status %v, want %v", got, counts)
	}
	return ""
}

// holdLock holds the lock of the openai pool as another server would.
func (r *replayer) holdLock(t *testing.T) func() {
	t.Helper()
	tx, err := r.server.DB().Write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "byok:"+r.vars["workspace"]+":openai"); err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

// replayCall replays a call of the real server's modules through
// /reference/resolve.
func (r *replayer) replayCall(t *testing.T, e transcripts.Entry) string {
	t.Helper()
	var want any
	if err := json.Unmarshal(e.Response.Body, &want); err != nil {
		return err.Error()
	}
	var got any
	if e.Group == "encryption" {
		want, got = wantOpened(want), r.open(t, e)
	} else {
		do := rotationCalls[e.ID]
		if do == nil {
			return "no calls are known"
		}
		got = do(t, r)
	}
	text, err := json.Marshal(got)
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		return err.Error()
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("got %v, want %v", got, want)
	}
	return ""
}
