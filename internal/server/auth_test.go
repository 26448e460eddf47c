package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a server with a user, a workspace and a clock.
type fixture struct {
	*server.Server
	clock *clock
	// stopped tells that the test has stopped the server.
	stopped bool
}

const (
	testEmail     = "a@example.com"
	testPassword  = "correct horse"
	testWorkspace = "00000000-0000-4000-8000-000000000001"
	testKeys      = "/api/workspaces/" + testWorkspace + "/byok-keys"
	signInPath    = "/api/auth/sign-in/email"
	signInBody    = `{"email":"` + testEmail + `","password":"` + testPassword + `"}`
)

func startFixture(t *testing.T, change ...func(*server.Config)) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)}}
	cfg := server.Config{
		Database: "sqlite::memory:", PasswordCost: 2, Development: true, Now: f.clock.Now,
		Secrets: server.Secrets{EncryptionKey: strings.Repeat("ab", 32), AuthSecret: "secret", InternalSecret: "internal"},
		Bootstrap: &server.Bootstrap{
			Users:      []server.BootstrapUser{{Email: testEmail, Password: testPassword, Name: "<A> & B"}},
			Workspaces: []server.BootstrapWorkspace{{ID: testWorkspace, Name: "W", Owner: testEmail}},
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if f.Server, err = server.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if f.stopped {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

// response is a response whose body has been read.
type response struct {
	*http.Response
	body    string
	cookies map[string]string
}

// call sends a request; headers are name, value, name, value.
func (f *fixture) call(t *testing.T, method, path, body string, headers ...string) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	got, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := response{Response: got, body: string(text), cookies: map[string]string{}}
	for _, c := range got.Header.Values("Set-Cookie") {
		name, rest, _ := strings.Cut(c, "=")
		a.cookies[strings.TrimPrefix(name, "better-auth.")], _, _ = strings.Cut(rest, ";")
	}
	return a
}

func (f *fixture) signIn(t *testing.T, body string) response {
	t.Helper()
	a := f.call(t, http.MethodPost, signInPath, body, "Content-Type", "application/json")
	if a.StatusCode != http.StatusOK {
		t.Fatalf("sign-in: %d %s", a.StatusCode, a.body)
	}
	return a
}

func cookie(pairs ...string) string {
	var all []string
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, "better-auth."+pairs[i]+"="+pairs[i+1])
	}
	return strings.Join(all, "; ")
}

func (a response) cookieNames() []string {
	var names []string
	for _, c := range a.Header.Values("Set-Cookie") {
		name, _, _ := strings.Cut(c, "=")
		names = append(names, strings.TrimPrefix(name, "better-auth."))
	}
	return names
}

func TestSlidingSession(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	token := f.signIn(t, signInBody).cookies["session_token"]
	use := func(wantStatus int, wantCookies ...string) response {
		t.Helper()
		a := f.call(t, http.MethodGet, testKeys, "", "Cookie", cookie("session_token", token))
		if a.StatusCode != wantStatus || !slices.Equal(a.cookieNames(), wantCookies) {
			t.Errorf("%d %q, want %d %q", a.StatusCode, a.cookieNames(), wantStatus, wantCookies)
		}
		return a
	}
	use(200, "session_data")
	f.clock.advance(access.SessionUpdateAge - time.Second)
	use(200, "session_data")
	f.clock.advance(time.Second)
	if a := use(200, "session_token", "session_data"); a.cookies["session_token"] != token {
		t.Error("the extended session has another value")
	}
	use(200, "session_data")
	f.clock.advance(access.SessionLifetime - time.Minute)
	use(200, "session_token", "session_data")
	f.clock.advance(access.SessionLifetime + time.Second)
	use(401)
	use(401)
}

func TestSessionData(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	in := f.signIn(t, signInBody)
	token, data := in.cookies["session_token"], in.cookies["session_data"]
	other := f.signIn(t, signInBody)
	for name, tt := range map[string]struct {
		cookie string
		status int
		sets   []string
	}{
		"both":                   {cookie("session_token", token, "session_data", data), 200, nil},
		"either order":           {cookie("session_data", data, "session_token", token), 200, nil},
		"data alone":             {cookie("session_data", data), 401, nil},
		"data of other session":  {cookie("session_token", token, "session_data", other.cookies["session_data"]), 200, []string{"session_data"}},
		"garbage data":           {cookie("session_token", token, "session_data", "x"), 200, []string{"session_data"}},
		"changed data":           {cookie("session_token", token, "session_data", data[:20]+"A"+data[21:]), 200, []string{"session_data"}},
		"token unsigned":         {cookie("session_token", strings.Split(token, ".")[0], "session_data", data), 401, nil},
		"both names":             {cookie("session_token", token) + "; __Secure-better-auth.session_token=x", 200, []string{"session_data"}},
		"the name for https":     {"__Secure-better-auth.session_token=" + token, 401, nil},
		"another signature":      {cookie("session_token", strings.Split(token, ".")[0]+".QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE%3D"), 401, nil},
		"not to be remembered":   {cookie("session_token", token, "dont_remember", f.Access().SignCookie("true")), 200, nil},
		"dont_remember unsigned": {cookie("session_token", token, "dont_remember", "true"), 200, []string{"session_data"}},
	} {
		a := f.call(t, http.MethodGet, testKeys, "", "Cookie", tt.cookie)
		if a.StatusCode != tt.status || !slices.Equal(a.cookieNames(), tt.sets) {
			t.Errorf("%s: %d %q, want %d %q", name, a.StatusCode, a.cookieNames(), tt.status, tt.sets)
		}
	}
	// A session that ended goes on for as long as its session_data is fresh.
	decoded := access.ParseCookies([]string{"c=" + token})["c"]
	bare, _, _ := strings.Cut(decoded, ".")
	if err := f.Access().EndSession(t.Context(), bare); err != nil {
		t.Fatal(err)
	}
	both := cookie("session_token", token, "session_data", data)
	f.clock.advance(access.CacheLifetime - time.Second)
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", both); a.StatusCode != http.StatusOK {
		t.Errorf("ended session with fresh data: %d", a.StatusCode)
	}
	f.clock.advance(2 * time.Second)
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", both); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("ended session with stale data: %d", a.StatusCode)
	}
}

func TestRememberMe(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	in := f.signIn(t, strings.TrimSuffix(signInBody, "}")+`,"rememberMe":false}`)
	all := cookie("session_token", in.cookies["session_token"], "dont_remember", in.cookies["dont_remember"])
	f.clock.advance(access.BriefLifetime - time.Second)
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", all); a.StatusCode != http.StatusOK || len(a.cookieNames()) != 0 {
		t.Errorf("within the day: %d %q", a.StatusCode, a.cookieNames())
	}
	f.clock.advance(2 * time.Second)
	if a := f.call(t, http.MethodGet, testKeys, "", "Cookie", all); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the day: %d", a.StatusCode)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	f := startFixture(t, func(c *server.Config) { c.Development = false })
	try := func(path, forwarded string, want int, retryAfter string) {
		t.Helper()
		headers := []string{"Content-Type", "application/json"}
		if forwarded != "" {
			headers = append(headers, "X-Forwarded-For", forwarded)
		}
		a := f.call(t, http.MethodPost, path, `{}`, headers...)
		if a.StatusCode != want || a.Header.Get("X-Retry-After") != retryAfter || a.Header.Get("Retry-After") != "" {
			t.Errorf("%s from %q: %d, X-Retry-After %q; want %d, %q", path, forwarded, a.StatusCode, a.Header.Get("X-Retry-After"), want, retryAfter)
		}
		if want == 429 && (a.body != `{"message":"Too many requests. Please try again later."}` || a.Header.Get("Content-Type") != "") {
			t.Errorf("429: %s %s", a.Header.Get("Content-Type"), a.body)
		}
	}
	for range 3 {
		try(signInPath, "", 400, "")
		f.clock.advance(3 * time.Second)
	}
	try(signInPath, "", 429, "7")
	try(signInPath, "127.0.0.1", 429, "7")
	try("/api/auth/sign-up/email", "", 400, "")
	try(signInPath, "203.0.113.9", 400, "")
	// A refused request does not restart the window.
	f.clock.advance(6*time.Second + 500*time.Millisecond)
	try(signInPath, "", 429, "1")
	f.clock.advance(500 * time.Millisecond)
	try(signInPath, "", 400, "")
	// Several addresses share one bucket; one IPv6 client has a whole /64.
	for range 3 {
		try(signInPath, "203.0.113.1, 203.0.113.2", 400, "")
		try(signInPath, "2001:db8::1", 400, "")
	}
	try(signInPath, "203.0.113.3, 203.0.113.4", 429, "10")
	try(signInPath, "2001:db8::2", 429, "10")
	try(signInPath, "2001:db8:0:1::1", 400, "")
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	origin := f.URL()
	jsonType := []string{"Content-Type", "application/json"}
	for name, tt := range map[string]struct {
		body    string
		headers []string
		status  int
		want    string // a part of the body
	}{
		"form":                     {"email=a%40example.com&password=correct+horse", []string{"Content-Type", "application/x-www-form-urlencoded"}, 200, `"redirect":false`},
		"charset":                  {signInBody, []string{"Content-Type", "Application/JSON; charset=utf-8"}, 200, `"name":"<A> & B"`},
		"no content type":          {signInBody, nil, 415, `"message":"Content-Type is required. Allowed types: application/x-www-form-urlencoded, application/json"`},
		"empty":                    {"", jsonType, 400, `{"message":"Invalid JSON in request body","code":"BAD_REQUEST"}`},
		"array":                    {"[]", jsonType, 400, `[body] Invalid input: expected object, received array`},
		"nothing":                  {"{}", jsonType, 400, `{"message":"[body.email] Invalid input: expected string, received undefined; [body.password] Invalid input: expected string, received undefined","code":"VALIDATION_ERROR"}`},
		"wrong types":              {`{"email":1,"password":null,"rememberMe":"no"}`, jsonType, 400, `[body.rememberMe] Invalid input: expected boolean, received string`},
		"empty password":           {`{"email":"a@example.com","password":""}`, jsonType, 401, `"code":"INVALID_EMAIL_OR_PASSWORD"`},
		"unknown user":             {`{"email":"b@example.com","password":"correct horse"}`, jsonType, 401, `"code":"INVALID_EMAIL_OR_PASSWORD"`},
		"two dots":                 {`{"email":"a..b@example.com","password":"x"}`, jsonType, 400, `"code":"INVALID_EMAIL"`},
		"referer of our own":       {signInBody, append(jsonType, "Referer", origin+"/login?x=1"), 200, ""},
		"foreign referer":          {signInBody, append(jsonType, "Referer", "http://evil.example/login"), 403, `"code":"INVALID_ORIGIN"`},
		"origin with another port": {signInBody, append(jsonType, "Origin", origin+"1"), 403, `"code":"INVALID_ORIGIN"`},
		"null origin with cookie":  {signInBody, append(jsonType, "Cookie", "x=y", "Origin", "null"), 403, `"code":"MISSING_OR_NULL_ORIGIN"`},
		"cross-site navigation":    {signInBody, append(jsonType, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"), 403, `"code":"CROSS_SITE_NAVIGATION_LOGIN_BLOCKED"`},
		"fetch without an origin":  {signInBody, append(jsonType, "Sec-Fetch-Site", "same-origin"), 403, `"code":"MISSING_OR_NULL_ORIGIN"`},
		"fetch of our own":         {signInBody, append(jsonType, "Sec-Fetch-Site", "same-origin", "Origin", origin), 200, ""},
		"types before origin":      {`{}`, append(jsonType, "Origin", "http://evil.example"), 400, `"code":"VALIDATION_ERROR"`},
		"JSON before origin":       {`{`, append(jsonType, "Cookie", "x=y"), 400, `"code":"BAD_REQUEST"`},
	} {
		a := f.call(t, http.MethodPost, signInPath, tt.body, tt.headers...)
		if a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", name, a.StatusCode, a.body, tt.status, tt.want)
		}
	}
}

func TestGetSessionAndSignOut(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	token := f.signIn(t, signInBody).cookies["session_token"]
	session := cookie("session_token", token)
	a := f.call(t, http.MethodGet, "/api/auth/get-session", "", "Cookie", session)
	var got struct {
		User    struct{ Email string }
		Session struct{ ExpiresAt, UserAgent, IPAddress string }
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.User.Email != testEmail ||
		got.Session.ExpiresAt != "2026-02-01T03:04:05.678Z" || got.Session.IPAddress != "127.0.0.1" || got.Session.UserAgent != "Go-http-client/1.1" {
		t.Errorf("get-session: %s %v", a.body, err)
	}
	if a := f.call(t, http.MethodPost, "/api/auth/sign-out", "{}", "Content-Type", "application/json", "Cookie", session, "Origin", "http://evil.example"); a.StatusCode != http.StatusForbidden {
		t.Errorf("sign-out from elsewhere: %d", a.StatusCode)
	}
	a = f.call(t, http.MethodPost, "/api/auth/sign-out", "", "Cookie", session, "Origin", f.URL())
	if a.StatusCode != http.StatusOK || a.Header.Values("Set-Cookie")[0] != "better-auth.session_token=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax" {
		t.Errorf("sign-out: %d %q", a.StatusCode, a.Header.Values("Set-Cookie"))
	}
	if a := f.call(t, http.MethodGet, "/api/auth/get-session", "", "Cookie", session); a.body != "null" {
		t.Errorf("after sign-out: %s", a.body)
	}
}

func TestBan(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	if _, err := f.DB().Write.ExecContext(t.Context(), `UPDATE "user" SET banned = $1, ban_expires = $2`, true, "2026-01-02 04:00:00.000000"); err != nil {
		t.Fatal(err)
	}
	try := func(body string, want int) {
		t.Helper()
		if a := f.call(t, http.MethodPost, signInPath, body, "Content-Type", "application/json"); a.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", body, a.StatusCode, a.body, want)
		}
	}
	try(signInBody, 403)
	try(strings.Replace(signInBody, "correct", "wrong", 1), 401)
	f.clock.advance(time.Hour)
	try(signInBody, 200)
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	f := startFixture(t)
	for body, want := range map[string]struct {
		status int
		part   string
	}{
		`{"email":"New@Example.com","password":"12345678","name":"N"}`:                      {200, `"email":"new@example.com"`},
		`{"email":"A@example.com","password":"12345678","name":"N"}`:                        {422, `USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL`},
		`{"email":"c@example.com","password":"1234567","name":"N"}`:                         {400, `PASSWORD_TOO_SHORT`},
		`{"email":"c@example.com","password":"` + strings.Repeat("x", 129) + `","name":""}`: {400, `PASSWORD_TOO_LONG`},
		`{"email":"c","password":"12345678","name":"N"}`:                                    {400, `[body.email] Invalid email address`},
		`{"email":"c@example.com","password":"12345678"}`:                                   {400, `[body.name] Invalid input: expected string, received undefined`},
	} {
		a := f.call(t, http.MethodPost, "/api/auth/sign-up/email", body, "Content-Type", "application/json")
		if a.StatusCode != want.status || !strings.Contains(a.body, want.part) {
			t.Errorf("%s: %d %s", body, a.StatusCode, a.body)
		}
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	f := startFixture(t, func(c *server.Config) { c.AppURL = "https://sim.example.com" })
	session, err := f.MintSession(t.Context(), testEmail)
	if err != nil {
		t.Fatal(err)
	}
	secure := "__Secure-better-auth.session_token=" + session
	for _, tt := range []struct {
		method, path string
		status       int
		requestID    bool
	}{
		{"GET", testKeys, 200, true},
		{"HEAD", testKeys, 200, true},
		{"OPTIONS", testKeys, 204, false},
		{"PUT", testKeys, 405, false},
		{"BREW", testKeys, 400, false},
		{"GET", testKeys + "/", 308, false},
		{"PUT", "/api//workspaces/x/byok-keys", 308, false},
		{"GET", testKeys + "/x", 404, false},
		{"GET", "/api/auth/nope", 404, true},
	} {
		a := f.call(t, tt.method, tt.path, "", "Cookie", secure, "X-Request-Id", "ffffffff", "Origin", "http://evil.example")
		id := a.Header.Get("X-Request-Id")
		if a.StatusCode != tt.status || (id != "") != tt.requestID || id == "ffffffff" {
			t.Errorf("%s %s: %d, request ID %q", tt.method, tt.path, a.StatusCode, id)
		}
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != "https://sim.example.com" {
			t.Errorf("%s %s: Access-Control-Allow-Origin %q", tt.method, tt.path, got)
		}
		if a.Header.Get("Allow") != "" || a.Header.Get("Cache-Control") != "" && tt.status != 404 {
			t.Errorf("%s %s: headers %v", tt.method, tt.path, a.Header)
		}
	}
	if a := f.call(t, "GET", testKeys, "", "Cookie", secure); !strings.Contains(a.Header.Get("Set-Cookie"), "; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("Set-Cookie %q", a.Header.Get("Set-Cookie"))
	}
	for accept, want := range map[string]string{"gzip": "gzip", "br, GZIP;q=0.5": "gzip", "*": "gzip", "gzip;q=0": "", "br": "", "identity": ""} {
		a := f.call(t, "GET", testKeys, "", "Cookie", secure, "Accept-Encoding", accept)
		body := []byte(a.body)
		if a.Header.Get("Content-Encoding") == "gzip" {
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err == nil {
				body, err = io.ReadAll(r)
			}
			if err != nil {
				t.Errorf("%s: %v", accept, err)
			}
		}
		if a.Header.Get("Content-Encoding") != want || string(body) != `{"keys":[]}` {
			t.Errorf("%s: %q %s", accept, a.Header.Get("Content-Encoding"), body)
		}
	}
}
