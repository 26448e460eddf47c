package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflogtest"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// canary is a secret; no test may find it in an error or a log line.
const canary = "sk-canary-7f3a9b\"\\Ünïcode-0001"

// signedToken looks like a session token in its decoded form.
const signedToken = "abcdefghijklmnopqrstuvwxyz012345.c2lnbmF0dXJlK3NpZ25hdHVyZS9zaWduYXR1cmUrMDA="

const testPassword = "pass-canary-word"

// model is a small Sim in memory: what a client can observe of the real one,
// and a script that can do anything to a request.
type model struct {
	mu      sync.Mutex
	pools   map[string][]*modelKey // workspace/provider ID
	next    int
	log     []string // "GET w1", "POST openai", ...
	session string   // the cookie value accepted, decoded; empty: everyone is

	signIns int
	// script is asked first about every request; it may respond or break the connection.
	script func(n int, r *http.Request, body []byte) act
	n      int
}

type modelKey struct {
	byok.Key
	secret string
}

// act is what a script does to one request.
type act struct {
	// response replaces the model's response.
	response func(w http.ResponseWriter)
	// skip: the model does not do the request.
	skip bool
	// cut: the connection breaks in place of a response.
	cut bool
	// late does the request only after this time, the connection cut before.
	late time.Duration
	// after runs when the model has done the request, before the response.
	after func()
}

func newModel() *model { return &model{pools: map[string][]*modelKey{}} }

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	n := m.n
	m.n++
	m.log = append(m.log, describe(r, body))
	script := m.script
	m.mu.Unlock()

	var a act
	if script != nil {
		a = script(n, r, body)
	}
	if a.late > 0 {
		go func() {
			time.Sleep(a.late)
			m.do(r, body)
		}()
		panic(http.ErrAbortHandler)
	}
	status, response := 0, ""
	var header http.Header
	if !a.skip {
		status, response, header = m.do(r, body)
	}
	if a.after != nil {
		a.after()
	}
	switch {
	case a.cut:
		panic(http.ErrAbortHandler)
	case a.response != nil:
		a.response(w)
	default:
		for k, v := range header {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", fmt.Sprintf("%08x", n))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, response)
	}
}

func describe(r *http.Request, body []byte) string {
	if r.URL.Path == signInPath {
		return "SIGN IN"
	}
	var said struct{ ProviderID, KeyID string }
	_ = json.Unmarshal(body, &said)
	switch {
	case r.Method == http.MethodGet:
		return "GET"
	case r.Method == http.MethodPost && said.KeyID != "":
		return "REPLACE " + said.ProviderID
	case r.Method == http.MethodPost:
		return "ADD " + said.ProviderID
	}
	return r.Method + " " + said.ProviderID
}

// do carries a request out and returns the response.
func (m *model) do(r *http.Request, body []byte) (int, string, http.Header) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.URL.Path == signInPath {
		var in struct{ Email, Password string }
		_ = json.Unmarshal(body, &in)
		if in.Password != testPassword {
			return 401, `{"message":"Invalid email or password","code":"INVALID_EMAIL_OR_PASSWORD"}`, nil
		}
		m.signIns++
		m.session = fmt.Sprintf("session%d.c2ln+/A=", m.signIns)
		return 200, `{"redirect":false}`, http.Header{"Set-Cookie": {
			cookieName + "=" + url.QueryEscape(m.session) + "; Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax", "better-auth.session_data=x; Path=/"}}
	}
	if m.session != "" {
		cookie, err := r.Cookie(cookieName)
		if err != nil || cookie.Value != url.QueryEscape(m.session) {
			return 401, `{"error":"Unauthorized"}`, nil
		}
	}
	workspaceID := strings.Split(r.URL.Path, "/")[3]
	if r.Method == http.MethodGet {
		list := byok.ListResponse{Keys: []byok.Key{}}
		for pool, keys := range m.pools {
			if strings.HasPrefix(pool, workspaceID+"/") {
				for _, key := range keys {
					list.Keys = append(list.Keys, key.Key)
				}
			}
		}
		slices.SortFunc(list.Keys, func(a, b byok.Key) int {
			return strings.Compare(a.ProviderID+a.CreatedAt+a.ID, b.ProviderID+b.CreatedAt+b.ID)
		})
		text, _ := json.Marshal(list)
		return 200, string(text), nil
	}
	var in byok.SaveRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return 400, `{"error":"Request body must be valid JSON"}`, nil
	}
	pool := workspaceID + "/" + in.ProviderID
	at := slices.IndexFunc(m.pools[pool], func(k *modelKey) bool { return k.ID == in.KeyID })
	now := byok.FormatTime(time.Now())
	switch {
	case r.Method == http.MethodDelete && in.KeyID == "":
		panic("a delete without a key ID")
	case in.KeyID != "" && at < 0:
		return 404, `{"error":"BYOK key not found"}`, nil
	case r.Method == http.MethodDelete:
		m.pools[pool] = slices.Delete(m.pools[pool], at, at+1)
		return 200, `{"success":true}`, nil
	case in.KeyID != "":
		key := m.pools[pool][at]
		key.secret, key.MaskedKey, key.UpdatedAt = in.APIKey, byok.Mask(in.APIKey), now
		if in.Name != nil {
			key.Name = storedName(in.Name)
		}
		return 200, mustJSON(map[string]any{"success": true, "key": map[string]any{
			"id": key.ID, "providerId": key.ProviderID, "name": key.Name, "maskedKey": key.MaskedKey, "updatedAt": now}}), nil
	case len(m.pools[pool]) >= byok.Cap:
		return 400, `{"error":"A workspace can store at most 10 keys per provider"}`, nil
	}
	key := m.put(pool, in.ProviderID, in.APIKey, in.Name, time.Now())
	return 200, mustJSON(map[string]any{"success": true, "key": map[string]any{
		"id": key.ID, "providerId": key.ProviderID, "name": key.Name, "createdAt": now, "maskedKey": key.MaskedKey}}), nil
}

// put stores a key; the caller holds the lock.
func (m *model) put(pool, providerID, secret string, name *string, at time.Time) *modelKey {
	m.next++
	user := "user0123456789012345678901234567"
	key := &modelKey{secret: secret, Key: byok.Key{ID: fmt.Sprintf("key-%017d", m.next), ProviderID: providerID, Name: storedName(name),
		MaskedKey: byok.Mask(secret), CreatedBy: &user, CreatedAt: byok.FormatTime(at), UpdatedAt: byok.FormatTime(at)}}
	m.pools[pool] = append(m.pools[pool], key)
	return key
}

// seed stores a key as another user would have, at a time.
func (m *model) seed(pool, secret, name string, at time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, providerID, _ := strings.Cut(pool, "/")
	return m.put(pool, providerID, secret, &name, at).ID
}

// secrets returns what is stored, by pool and key ID.
func (m *model) secrets() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	secrets := map[string]string{}
	for pool, keys := range m.pools {
		for _, key := range keys {
			secrets[pool+" "+key.ID] = key.secret
		}
	}
	return secrets
}

func (m *model) keys(pool string) []modelKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []modelKey
	for _, key := range m.pools[pool] {
		keys = append(keys, *key)
	}
	return keys
}

func (m *model) count(prefix string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, line := range m.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (m *model) requests() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.log, ", ")
}

func storedName(name *string) *string {
	if name == nil || byok.TrimName(*name) == "" {
		return nil
	}
	trimmed := byok.TrimName(*name)
	return &trimmed
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// respond is a response of the given status, body and "Name: value" headers.
func respond(status int, body string, headers ...string) act {
	return act{skip: true, response: func(w http.ResponseWriter) { write(w, status, body, headers...) }}
}

func write(w http.ResponseWriter, status int, body string, headers ...string) {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		w.Header().Add(name, value)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// scene is a client and a model in a bubble of virtual time, joined by pipes.
type scene struct {
	*testing.T
	model  *model
	client *Client
	logs   *safeBuffer
	ctx    context.Context
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// play runs test in a bubble: waits take no time and are measured exactly.
func play(t *testing.T, edit func(*Config), test func(s *scene)) {
	t.Helper()
	playThrough(t, func(m *model) http.Handler { return m }, edit, test)
}

// playThrough is play with a handler in front of the model.
func playThrough(t *testing.T, wrap func(*model) http.Handler, edit func(*Config), test func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, model: newModel(), logs: &safeBuffer{}}
		cfg := Config{Endpoint: "http://localhost:1", SessionToken: signedToken, MaxRetries: -1, UserAgent: "test"}
		if edit != nil {
			edit(&cfg)
		}
		listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: wrap(s.model), ErrorLog: nil}
		go func() { _ = server.Serve(listener) }()
		client, err := newClient(cfg, listener.dial, func() float64 { return 1 })
		if err != nil {
			t.Fatal(err)
		}
		s.client = client
		ctx, cancel := context.WithCancel(tflogtest.RootLogger(context.Background(), s.logs))
		s.ctx = ctx
		defer func() {
			cancel()
			_ = server.Close()
			time.Sleep(time.Hour) // of the bubble: all that still sleeps ends
			synctest.Wait()
			hunt(t, "the log", s.logs.String())
		}()
		test(s)
	})
}

// hunt fails when text holds a secret.
func hunt(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{canary, strings.Trim(mustJSON(canary), `"`), "canary-7f3a9b", testPassword, signedToken, url.QueryEscape(signedToken)} {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret: %s", where, text)
		}
	}
}

// look lists w1, so that an add need not, and forgets the request.
func (s *scene) look() {
	s.Helper()
	if _, err := s.client.List(s.ctx, w1); err != nil {
		s.Fatal(err)
	}
	s.model.mu.Lock()
	defer s.model.mu.Unlock()
	s.model.log = nil
}

// wantKind fails unless err is of kind, and looks for secrets in it.
func (s *scene) wantKind(err error, kind Kind) *Error {
	s.Helper()
	e, ok := err.(*Error) //nolint:errorlint // never wrapped
	if !ok || e.Kind != kind {
		s.Fatalf("got error %v (%T), want kind %s; requests: %s", err, err, kind, s.model.requests())
	}
	hunt(s.T, "an error", e.Error()+fmt.Sprintf("%+v", *e))
	return e
}

func (s *scene) wantRequests(want string) {
	s.Helper()
	if got := s.model.requests(); got != want {
		s.Errorf("requests were %s, want %s", got, want)
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func ptr[T any](v T) *T { return &v }
