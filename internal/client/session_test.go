package client

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

func byPassword(c *Config) {
	c.SessionToken, c.Email, c.Password = "", "a@example.com", testPassword
}

func listAll(s *scene, workspaces int) (errs []error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range workspaces {
		wg.Go(func() {
			_, err := s.client.List(s.ctx, byok.WorkspaceScope("w"+string(rune('a'+i))))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errs
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	t.Run("once for all", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) {
			s.model.script = func(_ int, r *http.Request, body []byte) act {
				if r.URL.Path == signInPath {
					for _, name := range []string{"Cookie", "Origin", "Referer"} {
						if r.Header.Get(name) != "" {
							s.Errorf("the sign-in has a %s header", name)
						}
					}
					if r.Header.Get("Content-Type") != "application/json" || string(body) != `{"email":"a@example.com","password":"`+testPassword+`"}` {
						s.Errorf("sign-in %s", body)
					}
					time.Sleep(10 * time.Millisecond)
				}
				return act{}
			}
			if errs := listAll(s, 20); len(errs) > 0 {
				s.Error(errs)
			}
			if s.model.signIns != 1 || s.model.count("GET") != 20 {
				s.Errorf("requests: %s", s.model.requests())
			}
		})
	})
	t.Run("a canceled one does not hide its successor", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) {
			s.model.script = func(_ int, r *http.Request, _ []byte) act {
				if r.URL.Path == signInPath {
					time.Sleep(time.Second)
				}
				return act{}
			}
			// A canceled request takes a while to return.
			pipe := s.client.http.Transport
			s.client.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := pipe.RoundTrip(r)
				if r.Context().Err() != nil {
					time.Sleep(300 * time.Millisecond)
				}
				return resp, err
			})
			ctx, cancel := context.WithTimeout(s.ctx, 100*time.Millisecond)
			defer cancel()
			_, err := s.client.List(ctx, w1)
			_ = s.wantKind(err, KindCanceled)
			var wg sync.WaitGroup
			for _, at := range []time.Duration{time.Millisecond, 500 * time.Millisecond} {
				wg.Go(func() {
					time.Sleep(at)
					if _, err := s.client.List(s.ctx, w1); err != nil {
						s.Error(err)
					}
				})
			}
			wg.Wait()
			if n := s.model.count("SIGN IN"); n != 2 {
				s.Errorf("%d sign-ins were sent, want the canceled one and its successor", n)
			}
		})
	})
	t.Run("not before it is needed", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) { s.wantRequests("") })
	})
	t.Run("renewed once, for all", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) {
			if errs := listAll(s, 1); len(errs) > 0 {
				s.Fatal(errs)
			}
			s.model.mu.Lock()
			s.model.session = "revoked"
			s.model.mu.Unlock()
			for range 2 {
				s.client.scopes = map[byok.Scope]*scope{}
				if errs := listAll(s, 10); len(errs) > 0 {
					s.Error(errs)
				}
			}
			if s.model.signIns != 2 {
				s.Errorf("%d sign-ins", s.model.signIns)
			}
			s.model.mu.Lock()
			s.model.session = "revoked again"
			s.model.mu.Unlock()
			_, err := s.client.List(s.ctx, byok.WorkspaceScope("wz"))
			_ = s.wantKind(err, KindUnauthorized)
			if s.model.signIns != 2 {
				s.Errorf("%d sign-ins", s.model.signIns)
			}
		})
	})
	t.Run("an add is repeated after a renewal", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) {
			if errs := listAll(s, 1); len(errs) > 0 {
				s.Fatal(errs)
			}
			s.model.mu.Lock()
			s.model.session = "revoked"
			s.model.mu.Unlock()
			if _, err := s.client.Add(s.ctx, openai, input()); err != nil {
				s.Error(err)
			}
			if keys := s.model.keys(openaiPool); len(keys) != 1 {
				s.Errorf("%d keys", len(keys))
			}
		})
	})
	t.Run("a session token is never renewed", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.model.session = "other"
			_, err := s.client.List(s.ctx, w1)
			e := s.wantKind(err, KindUnauthorized)
			if !strings.Contains(e.Error(), "no permission on this workspace") {
				s.Errorf("%v", e)
			}
			s.wantRequests("GET, GET") // the list, and who is signed in
		})
	})
	t.Run("waits as long as X-Retry-After says", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) {
			s.model.script = func(n int, _ *http.Request, _ []byte) act {
				if n == 0 {
					return respond(429, `{"message":"Too many requests. Please try again later."}`, "X-Retry-After: 10")
				}
				return act{}
			}
			start := time.Now()
			if errs := listAll(s, 3); len(errs) > 0 || time.Since(start) != 10500*time.Millisecond {
				s.Errorf("%v after %s", errs, time.Since(start))
			}
		})
	})
	t.Run("a refusal stands", func(t *testing.T) {
		t.Parallel()
		play(t, func(c *Config) { byPassword(c); c.Password = "wrong" }, func(s *scene) {
			for range 3 {
				_, err := s.client.Add(s.ctx, openai, input())
				e := s.wantKind(err, KindSignIn)
				if e.Op != OpSignIn || e.Status != 401 || !strings.Contains(e.Error(), "email or password is wrong") {
					s.Errorf("%+v", e)
				}
			}
			s.wantRequests("SIGN IN")
		})
	})
	t.Run("a failure does not stand", func(t *testing.T) {
		t.Parallel()
		play(t, func(c *Config) { byPassword(c); c.MaxRetries = 0 }, func(s *scene) {
			s.model.script = func(n int, _ *http.Request, _ []byte) act {
				if n == 0 {
					return respond(502, canary)
				}
				return act{}
			}
			_, err := s.client.Add(s.ctx, openai, input())
			if e := s.wantKind(err, KindServer); e.Op != OpSignIn {
				s.Errorf("%+v", e)
			}
			if _, err := s.client.Add(s.ctx, openai, input()); err != nil {
				s.Error(err)
			}
		})
	})
	for name, tc := range map[string]struct {
		act
		kind Kind
		text string
	}{
		"banned":         {respond(403, `{"message":"You have been banned","code":"BANNED_USER"}`), KindSignIn, "the user is banned"},
		"unknown reason": {respond(403, `{"message":"`+testPassword+`","code":"`+testPassword+`"}`), KindSignIn, "no reason that can be shown"},
		"no cookie":      {respond(200, `{}`), KindProtocol, "sets no session cookie"},
		"second factor":  {respond(200, `{"twoFactorRedirect":true}`), KindProtocol, "second factor"},
		"broken cookie":  {respond(200, `{}`, "Set-Cookie: "+cookieName+"=%zz"), KindProtocol, "malformed"},
		"no such route":  {respond(404, `<html>`), KindProtocol, "endpoint may be wrong"},
		"redirect":       {respond(302, ``, "Location: https://sim.example.com"+signInPath), KindRedirect, "set the endpoint to https://sim.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, byPassword, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return tc.act }
				_, err := s.client.List(s.ctx, w1)
				if e := s.wantKind(err, tc.kind); e.Op != OpSignIn || !strings.Contains(e.Error(), tc.text) {
					s.Errorf("%v", e)
				}
			})
		})
	}
	t.Run("the secure name", func(t *testing.T) {
		t.Parallel()
		play(t, byPassword, func(s *scene) {
			s.model.script = func(_ int, r *http.Request, _ []byte) act {
				if r.URL.Path == signInPath {
					return respond(200, `{}`, "Set-Cookie: "+secureCookieName+"=tok.c2ln%2B%3D; Secure; Path=/")
				}
				if got := r.Header.Get("Cookie"); !strings.Contains(got, secureCookieName+"=tok.c2ln%2B%3D") {
					s.Errorf("Cookie %s", got)
				}
				return act{}
			}
			if errs := listAll(s, 1); len(errs) > 0 {
				s.Error(errs)
			}
		})
	})
}

// TestCheckSession: one request tells whether later ones can succeed, or a second
// one where a gateway responds to the first in place of Sim.
func TestCheckSession(t *testing.T) {
	t.Parallel()
	const user = `{"session":{"id":"s"},"user":{"id":"u"}}`
	html := "<html>" + canary
	for name, tc := range map[string]struct {
		edit     func(*Config)
		act      act
		kind     Kind
		text     string
		requests string
	}{
		"token":                                {nil, respond(200, user), "", "", "GET"},
		"refused token":                        {nil, respond(200, "null\n"), KindUnauthorized, "checking the session: the session is not valid", "GET"},
		"a gateway does not let it through":    {nil, respond(404, html), "", "", "GET, GET"},
		"a gateway requires a header":          {nil, respond(401, html), "", "", "GET, GET"},
		"a gateway forbids it":                 {nil, respond(403, html), "", "", "GET, GET"},
		"a gateway has a page of its own":      {nil, respond(200, html), "", "", "GET, GET"},
		"a gateway redirects to its own page":  {nil, respond(302, "", "Location: https://login.example.com/"), "", "", "GET, GET"},
		"no API":                               {nil, respond(404, html), KindProtocol, "there is no BYOK API at this address", "GET, GET"},
		"a gateway requires a header for all":  {nil, respond(401, html), KindProtocol, "a gateway in front of it may need headers", "GET, GET"},
		"a gateway forbids all":                {nil, respond(403, html), KindProtocol, "a gateway in front of it may have refused", "GET, GET"},
		"every page is another one":            {nil, respond(200, html), KindProtocol, "it is HTML, not JSON", "GET, GET"},
		"a gateway redirects all":              {nil, respond(302, "", "Location: https://login.example.com/"), KindRedirect, "this one leads to another page of https://login.example.com", "GET, GET"},
		"https is spoken":                      {nil, respond(400, "Client sent an HTTP request to an HTTPS server."), KindProtocol, "the endpoint may have to begin with https://", "GET, GET"},
		"another endpoint":                     {nil, respond(308, "", "Location: https://sim.example.com"+sessionPath), KindRedirect, "set the endpoint to https://sim.example.com", "GET"},
		"the server fails":                     {func(c *Config) { c.MaxRetries = 1 }, respond(503, html), KindServer, "(status 503 from http://localhost:1" + sessionPath, "GET, GET"},
		"the connection is closed":             {func(c *Config) { c.MaxRetries = 1 }, act{cut: true, skip: true}, KindNetwork, "no response from http://localhost:1" + sessionPath, "GET, GET"},
		"email and password":                   {byPassword, act{}, "", "", "SIGN IN"},
		"wrong password":                       {func(c *Config) { byPassword(c); c.Password = "wrong" }, act{}, KindSignIn, "email or password is wrong", "SIGN IN"},
		"email and password, another endpoint": {byPassword, respond(404, html), KindProtocol, "endpoint may be wrong", "SIGN IN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, tc.edit, func(s *scene) {
				s.model.script = func(_ int, r *http.Request, _ []byte) act {
					if tc.kind == "" && r.URL.Path == w1.KeysPath() {
						return act{} // the gateway lets it through
					}
					return tc.act
				}
				err := s.client.CheckSession(s.ctx, w1.ID)
				if tc.kind == "" && err != nil {
					s.Error(err)
				}
				if tc.kind != "" {
					if e := s.wantKind(err, tc.kind); !strings.Contains(e.Error(), tc.text) || e.URL == "" {
						s.Errorf("%v (URL %s)", e, e.URL)
					}
				}
				s.wantRequests(tc.requests)
			})
		})
	}
}

// A 401 of a list has two causes. One more request tells which, where it can.
func TestUnauthorizedList(t *testing.T) {
	t.Parallel()
	valid, invalid := respond(200, `{"session":{"id":"s"},"user":{"id":"u"}}`), respond(200, "null")
	for name, tc := range map[string]struct {
		edit     func(*Config)
		scope    byok.Scope
		session  act
		kind     Kind
		text     string
		requests string
	}{
		"no permission":               {nil, w1, valid, KindNoAccess, "the user has no permission on this workspace", "GET, GET"},
		"no permission, by password":  {byPassword, w1, valid, KindNoAccess, "the user has no permission on this workspace", "SIGN IN, GET, SIGN IN, GET, GET"},
		"no session":                  {nil, w1, invalid, KindUnauthorized, "checking the session: the session is not valid (", "GET, GET"},
		"a gateway does not let it":   {nil, w1, respond(404, "<html>"), KindUnauthorized, "the session is not valid, or its user has no permission on this workspace", "GET, GET"},
		"a gateway has its own page":  {nil, w1, respond(200, "<html>"), KindUnauthorized, "the session is not valid, or its user has no permission on this workspace", "GET, GET"},
		"the session is asked for":    {nil, w1, respond(401, `{"error":"Unauthorized"}`), KindUnauthorized, "the session is not valid, or its user has no permission on this workspace", "GET, GET"},
		"an organization has one 401": {nil, byok.OrganizationScope("o1"), valid, KindUnauthorized, "the session is not valid", "GET"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, tc.edit, func(s *scene) {
				s.model.script = func(_ int, r *http.Request, _ []byte) act {
					switch {
					case r.URL.Path == sessionPath:
						return tc.session
					case strings.HasSuffix(r.URL.Path, "/byok-keys"):
						return respond(401, `{"error":"Unauthorized"}`)
					}
					return act{}
				}
				_, err := s.client.List(s.ctx, tc.scope)
				if e := s.wantKind(err, tc.kind); !strings.Contains(e.Error(), tc.text) || e.Status != 401 || strings.HasSuffix(e.URL, sessionPath) {
					s.Errorf("%v (URL %s)", e, e.URL)
				}
				s.wantRequests(tc.requests)
			})
		})
	}
}

func TestSessionTokenForms(t *testing.T) {
	t.Parallel()
	const decoded = signedToken
	encoded := "abcdefghijklmnopqrstuvwxyz012345.c2lnbmF0dXJlK3NpZ25hdHVyZS9zaWduYXR1cmUrMDA%3D"
	for _, form := range []string{
		decoded, encoded, ` ` + encoded + "\n", `"` + encoded + `"`, `"` + decoded + `"`, cookieName + "=" + encoded,
		secureCookieName + "=" + decoded, cookieName + "=" + encoded + "; Path=/; HttpOnly", strings.ReplaceAll(encoded, "%", "%25"),
		cookieName + `="` + encoded + `"`,
	} {
		if got, problem := normaliseSessionToken(form); got != decoded || problem != "" {
			t.Errorf("%q becomes %q (%s)", form, got, problem)
		}
	}
	for _, form := range []string{"", "  ", `""`, "a.b\nc", "a\x00b", "a b.c", "a,b", "%", "a%2", "ü.b", "a.b%00", "a.b%0d%0a", cookieName + "="} {
		if got, problem := normaliseSessionToken(form); problem == "" || got != "" {
			t.Errorf("%q is accepted as %q", form, got)
		}
	}
}

func FuzzSessionToken(f *testing.F) {
	for _, seed := range []string{signedToken, "a%2B", `"a"`, cookieName + "=x; y", "%25%32%35", "\x7f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, pasted string) {
		token, problem := normaliseSessionToken(pasted)
		if (token == "") == (problem == "") {
			t.Fatalf("%q: token %q, problem %q", pasted, token, problem)
		}
		if strings.ContainsAny(token, "%;\"\r\n ,\x00") {
			t.Fatalf("%q becomes %q", pasted, token)
		}
		if again, problem := normaliseSessionToken(token); token != "" && strings.Count(token, "=") == 0 && (again != token || problem != "") {
			t.Fatalf("%q becomes %q, then %q (%s)", pasted, token, again, problem)
		}
	})
}
