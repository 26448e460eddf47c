package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// verbs run one operation on an existing key.
var verbs = map[Op]func(s *scene, keyID string) error{
	OpList: func(s *scene, _ string) error { _, err := s.client.List(s.ctx, w1); return err },
	OpReplace: func(s *scene, keyID string) error {
		_, err := s.client.Replace(s.ctx, openai, ReplaceInput{KeyID: keyID, APIKey: canary, Name: ptr("n"),
			Prior: &byok.Key{ID: keyID, CreatedAt: "2026-01-02T03:04:05.000Z"}})
		return err
	},
	OpDelete: func(s *scene, keyID string) error { return s.client.Delete(s.ctx, openai, keyID) },
}

// TestRetries: what is repeated, how long the waits are, and what is told in
// the end.
func TestRetries(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		fault  act
		times  int // how many requests have the fault; 99: all
		kind   Kind
		sent   int
		waited time.Duration
	}{
		"cut, then well":               {act{cut: true, skip: true}, 1, "", 2, 500 * ms},
		"503 three times, then well":   {respond(503, canary), 3, "", 4, 3500 * ms},
		"500 for ever":                 {respond(500, canary, "X-Request-Id: 0123abcd"), 99, KindServer, 5, 7500 * ms},
		"501 is final":                 {respond(501, canary), 99, KindServer, 1, 0},
		"429 for ever":                 {respond(429, canary), 99, KindRateLimited, 5, 7500 * ms},
		"Retry-After in seconds":       {respond(503, "", "Retry-After: 3"), 1, "", 2, 3500 * ms},
		"Retry-After as a date":        {respond(429, "", "Retry-After: Sat, 01 Jan 2000 00:00:10 GMT", "Date: Sat, 01 Jan 2000 00:00:00 GMT"), 1, "", 2, 10500 * ms},
		"Retry-After in the past":      {respond(429, "", "Retry-After: Fri, 31 Dec 1999 00:00:10 GMT"), 1, "", 2, 500 * ms},
		"X-Retry-After":                {respond(429, "", "X-Retry-After: 10"), 1, "", 2, 10500 * ms},
		"Retry-After beyond the limit": {respond(429, "", "Retry-After: 86400"), 1, "", 2, 30000 * ms},
		"Retry-After beyond numbers":   {respond(429, "", "Retry-After: 99999999999999999999999"), 1, "", 2, 30000 * ms},
		"Retry-After is nonsense":      {respond(429, "", "Retry-After: soon"), 1, "", 2, 500 * ms},
		"HTML with 200":                {respond(200, "<html>"+canary, "Content-Type: text/html"), 1, "", 2, 500 * ms},
		"garbage for ever":             {respond(200, `{"keys":[{"id":`), 99, KindProtocol, 5, 7500 * ms},
		"truncated":                    {respond(200, `{`, "Content-Length: 100"), 1, "", 2, 500 * ms},
		"401":                          {respond(401, `{"error":"Unauthorized"}`), 99, KindUnauthorized, 1, 0},
		"403":                          {respond(403, `{"error":"Only workspace admins can manage BYOK keys"}`), 99, KindForbidden, 1, 0},
		"404 HTML":                     {respond(404, "<html>"), 99, KindProtocol, 1, 0},
		"302":                          {respond(302, "", "Location: https://elsewhere.example/x"), 99, KindRedirect, 1, 0},
		"418":                          {respond(418, canary), 99, KindProtocol, 1, 0},
	} {
		for op, run := range verbs {
			t.Run(name+"/"+string(op), func(t *testing.T) {
				t.Parallel()
				play(t, nil, func(s *scene) {
					id := s.model.seed(openaiPool, "sk-old-secret-0000", "old", time.Now())
					s.model.script = func(n int, _ *http.Request, _ []byte) act {
						if n < tc.times {
							return tc.fault
						}
						return act{}
					}
					start := time.Now()
					err := run(s, id)
					if tc.kind == "" && err != nil {
						s.Fatal(err)
					}
					if tc.kind != "" {
						if e := s.wantKind(err, tc.kind); e.Attempts != tc.sent || e.Op != op || e.Pool.Scope != w1 {
							s.Errorf("%+v", e)
						}
					}
					sent := tc.sent
					if tc.kind == KindUnauthorized && op == OpList {
						sent++ // the session is asked for
					}
					if waited := time.Since(start); s.model.n != sent || waited != tc.waited {
						s.Errorf("%d requests in %s, want %d in %s", s.model.n, waited, sent, tc.waited)
					}
				})
			})
		}
	}
}

// TestLostResponses: a delete or replace whose response was lost is reported as
// done.
func TestLostResponses(t *testing.T) {
	t.Parallel()
	for _, op := range []Op{OpReplace, OpDelete} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				id := s.model.seed(openaiPool, "sk-old-secret-0000", "old", time.Now())
				s.model.script = func(n int, _ *http.Request, _ []byte) act { return act{cut: n == 0} }
				if err := verbs[op](s, id); err != nil {
					s.Fatal(err)
				}
				if keys := s.model.keys(openaiPool); op == OpReplace && keys[0].secret != canary || op == OpDelete && len(keys) > 0 {
					s.Errorf("it is not done: %+v", keys)
				}
			})
		})
	}
	t.Run("a key that was never there", func(t *testing.T) {
		t.Parallel()
		for _, op := range []Op{OpReplace, OpDelete} {
			play(t, nil, func(s *scene) { _ = s.wantKind(verbs[op](s, "key-unknown"), KindKeyNotFound) })
		}
	})
	t.Run("404 HTML after a lost delete is no success", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.model.script = func(n int, _ *http.Request, _ []byte) act {
				if n == 0 {
					return act{cut: true, skip: true}
				}
				return respond(404, "<html>")
			}
			_ = s.wantKind(verbs[OpDelete](s, "key-1"), KindProtocol)
		})
	})
	t.Run("404 after a delete that was refused for the moment", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.model.script = func(n int, _ *http.Request, _ []byte) act {
				if n == 0 {
					return respond(429, "")
				}
				return act{}
			}
			_ = s.wantKind(verbs[OpDelete](s, "key-1"), KindKeyNotFound)
		})
	})
}

func TestWithinTheContext(t *testing.T) {
	t.Parallel()
	for op, run := range verbs {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			t.Run("a wait beyond the deadline is not begun", func(t *testing.T) {
				t.Parallel()
				play(t, nil, func(s *scene) {
					if op == OpList {
						s.Skip("a list belongs to all who wait for it; each waits no longer than its own context")
					}
					s.model.script = func(int, *http.Request, []byte) act { return respond(503, "", "Retry-After: 20") }
					ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
					defer cancel()
					s.ctx = ctx
					start := time.Now()
					e := s.wantKind(run(s, "key-1"), KindServer)
					if e.Status != 503 || time.Since(start) != 0 {
						s.Errorf("%v after %s", e, time.Since(start))
					}
				})
			})
			t.Run("canceled in a wait", func(t *testing.T) {
				t.Parallel()
				play(t, nil, func(s *scene) {
					s.model.script = func(int, *http.Request, []byte) act { return respond(503, "", "Retry-After: 20") }
					ctx, cancel := context.WithCancel(s.ctx)
					time.AfterFunc(time.Second, cancel)
					s.ctx = ctx
					start := time.Now()
					err := run(s, "key-1")
					_ = s.wantKind(err, KindCanceled)
					if !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
						s.Errorf("%v after %s", err, time.Since(start))
					}
				})
			})
			t.Run("a server that hangs", func(t *testing.T) {
				t.Parallel()
				play(t, func(c *Config) { c.RequestTimeout, c.MaxRetries = 2*time.Second, 1 }, func(s *scene) {
					hang := make(chan struct{})
					defer close(hang)
					s.model.script = func(int, *http.Request, []byte) act { <-hang; return act{cut: true, skip: true} }
					start := time.Now()
					_ = s.wantKind(run(s, "key-1"), KindNetwork)
					if took := time.Since(start); took != 4500*time.Millisecond {
						s.Errorf("it took %s", took)
					}
				})
			})
			t.Run("a body that trickles", func(t *testing.T) {
				t.Parallel()
				play(t, func(c *Config) { c.RequestTimeout, c.MaxRetries = 2*time.Second, 0 }, func(s *scene) {
					s.model.script = func(int, *http.Request, []byte) act {
						return act{skip: true, response: func(w http.ResponseWriter) {
							for {
								if _, err := w.Write([]byte(" ")); err != nil {
									return
								}
								if http.NewResponseController(w).Flush() != nil {
									return
								}
								time.Sleep(100 * time.Millisecond)
							}
						}}
					}
					start := time.Now()
					_ = s.wantKind(run(s, "key-1"), KindNetwork)
					if took := time.Since(start); took != 2*time.Second {
						s.Errorf("it took %s", took)
					}
				})
			})
		})
	}
}

// TestUnreachable: once the endpoint could not be reached, the next requests
// make one attempt each, until there is a response.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		refused, dials := true, 0
		refuseConnections(s, func() bool { dials++; return refused })
		_, err := s.client.Add(s.ctx, openai, input())
		e := s.wantKind(err, KindNetwork)
		if e.Attempts != 5 || !strings.Contains(e.Error(), "no response from http://localhost:1/api/workspaces/w1/byok-keys: connection refused") {
			s.Errorf("%+v", e)
		}
		_, err = s.client.List(s.ctx, w1)
		if e := s.wantKind(err, KindNetwork); e.Attempts != 1 || dials != 6 {
			s.Errorf("%d dials, %+v", dials, e)
		}
		refused = false
		if _, err := s.client.List(s.ctx, w1); err != nil {
			s.Error(err)
		}
		s.model.script = func(n int, _ *http.Request, _ []byte) act { return act{cut: n < 3, skip: n < 3} }
		if _, err := s.client.List(s.ctx, w2); err != nil {
			s.Error(err)
		}
	})
}

// refuseConnections refuses connections as long as refuses says so.
func refuseConnections(s *scene, refuses func() bool) {
	var mu sync.Mutex
	pipe := s.client.http.Transport
	s.client.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		refused := refuses()
		mu.Unlock()
		if refused {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return pipe.RoundTrip(r)
	})
}

// TestRestart: a write survives a server that refuses connections for a
// minute, if its timeout is longer than that. A plan does not wait as long.
func TestRestart(t *testing.T) {
	t.Parallel()
	const down = time.Minute
	add := func(s *scene, _ string) error { _, err := s.client.Add(s.ctx, openai, input()); return err }
	// An apply plans its creates again, and that list fails first.
	afterList := func(run func(*scene, string) error) func(*scene, string) error {
		return func(s *scene, keyID string) error {
			_ = s.wantKind(verbs[OpList](s, keyID), KindNetwork)
			return run(s, keyID)
		}
	}
	for name, tc := range map[string]struct {
		run     func(s *scene, keyID string) error
		timeout time.Duration
		retries int
		kind    Kind
		most    time.Duration
	}{
		"add":                                    {add, 2 * time.Minute, -1, "", 71 * time.Second},
		"replace":                                {verbs[OpReplace], 2 * time.Minute, -1, "", 71 * time.Second},
		"delete":                                 {verbs[OpDelete], 2 * time.Minute, -1, "", 71 * time.Second},
		"delete with a short timeout":            {verbs[OpDelete], 20 * time.Second, -1, KindNetwork, 20 * time.Second},
		"delete without retries":                 {verbs[OpDelete], 2 * time.Minute, 0, KindNetwork, 0},
		"list, as in a plan":                     {verbs[OpList], 2 * time.Minute, -1, KindNetwork, 10 * time.Second},
		"check of the session by a plan":         {func(s *scene, _ string) error { return s.client.CheckSession(s.ctx, "") }, time.Minute, -1, KindNetwork, 10 * time.Second},
		"add after a list of the same apply":     {afterList(add), 2 * time.Minute, -1, "", 71 * time.Second},
		"replace after a list of the same apply": {afterList(verbs[OpReplace]), 2 * time.Minute, -1, "", 71 * time.Second},
		"delete after a list of the same apply":  {afterList(verbs[OpDelete]), 2 * time.Minute, -1, "", 71 * time.Second},
		"delete without retries, after a list":   {afterList(verbs[OpDelete]), 2 * time.Minute, 0, KindNetwork, 0},
		"list after a list":                      {afterList(verbs[OpList]), 2 * time.Minute, -1, KindNetwork, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(c *Config) { c.MaxRetries = tc.retries }, func(s *scene) {
				id := s.model.seed(openaiPool, "sk-old-secret-0000", "old", time.Now())
				start := time.Now()
				refuseConnections(s, func() bool { return time.Since(start) < down })
				ctx, cancel := context.WithTimeout(s.ctx, tc.timeout)
				defer cancel()
				s.ctx = ctx
				err := tc.run(s, id)
				if tc.kind == "" && err != nil {
					s.Fatal(err)
				}
				if tc.kind != "" {
					_ = s.wantKind(err, tc.kind)
				}
				if took := time.Since(start); took > tc.most || tc.kind == "" && took < down {
					s.Errorf("it took %s", took)
				}
			})
		})
	}
	t.Run("add whose response is lost by the restart", func(t *testing.T) {
		t.Parallel()
		play(t, nil, func(s *scene) {
			s.look()
			var start time.Time
			onAdd(s.model, 0, act{cut: true, after: func() { start = time.Now() }})
			refuseConnections(s, func() bool { return !start.IsZero() && time.Since(start) < down })
			ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
			defer cancel()
			key, err := s.client.Add(ctx, openai, input())
			if err != nil || len(s.model.keys(openaiPool)) != 1 || key.ID != s.model.keys(openaiPool)[0].ID {
				s.Errorf("%+v, %v; %s", key, err, s.model.requests())
			}
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNothingIsSentWithoutIDs(t *testing.T) {
	t.Parallel()
	play(t, nil, func(s *scene) {
		for _, workspaceID := range []string{"", ".", "..", "a\x00b", "a\nb", strings.Repeat("x", 300)} {
			pool := byok.Pool{Scope: byok.WorkspaceScope(workspaceID), ProviderID: "openai"}
			_, err := s.client.List(s.ctx, pool.Scope)
			_ = s.wantKind(err, KindInvalid)
			_, err = s.client.Add(s.ctx, pool, input())
			_ = s.wantKind(err, KindInvalid)
			_ = s.wantKind(s.client.Delete(s.ctx, pool, "key-1"), KindInvalid)
		}
		for _, keyID := range []string{"", " ", "a b", "a\nb", strings.Repeat("x", 129)} {
			_ = s.wantKind(verbs[OpReplace](s, keyID), KindInvalid)
			_ = s.wantKind(verbs[OpDelete](s, keyID), KindInvalid)
		}
		_ = s.wantKind(s.client.Delete(s.ctx, byok.Pool{Scope: w1}, "key-1"), KindInvalid)
		s.wantRequests("")
	})
}

func TestWorkspaceIDsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	play(t, func(c *Config) { c.Endpoint = "http://localhost:1/base//path/" }, func(s *scene) {
		var uri string
		s.model.script = func(_ int, r *http.Request, _ []byte) act {
			uri = r.RequestURI
			return respond(200, `{"keys":[]}`)
		}
		for id, want := range map[string]string{
			"w1": "w1", "a/b": "a%2Fb", "../x": "..%2Fx", "a?b#c": "a%3Fb%23c", "a%2Fb": "a%252Fb", "ü x": "%C3%BC%20x",
		} {
			if _, err := s.client.List(s.ctx, byok.WorkspaceScope(id)); err != nil {
				s.Fatal(err)
			}
			if want := "/base/path/api/workspaces/" + want + "/byok-keys"; uri != want {
				s.Errorf("%q: asked for %s, want %s", id, uri, want)
			}
		}
	})
}

func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	play(t, func(c *Config) { c.Headers = map[string]string{"x-gateway": "g", "Authorization": "Basic abc"} }, func(s *scene) {
		s.model.script = func(_ int, r *http.Request, _ []byte) act {
			value := "abcdefghijklmnopqrstuvwxyz012345.c2lnbmF0dXJlK3NpZ25hdHVyZS9zaWduYXR1cmUrMDA%3D"
			want := cookieName + "=" + value + "; " + secureCookieName + "=" + value
			if got := r.Header.Get("Cookie"); got != want {
				s.Errorf("Cookie %q, want %q", got, want)
			}
			for name, want := range map[string]string{
				"User-Agent": "test", "X-Gateway": "g", "Authorization": "Basic abc", "Accept": "application/json",
				"Accept-Encoding": "gzip", "Origin": "", "Referer": "",
			} {
				if got := r.Header.Get(name); got != want {
					s.Errorf("%s %s: %q, want %q", r.Method, name, got, want)
				}
			}
			if got := r.Header.Get("Content-Type"); (r.Method == http.MethodGet) != (got == "") {
				s.Errorf("%s with content type %q", r.Method, got)
			}
			return act{}
		}
		key, err := s.client.Add(s.ctx, openai, input())
		if err == nil {
			err = s.client.Delete(s.ctx, openai, key.ID)
		}
		if err != nil {
			s.Error(err)
		}
	})
}

func TestRedirectNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{
		"https://sim.example.com/api/workspaces/w1/byok-keys":      "set the endpoint to https://sim.example.com",
		"https://sim.example.com/base/api/workspaces/w1/byok-keys": "set the endpoint to https://sim.example.com/base",
		"https://login.example.com/?next=" + "%2F":                 "another page of https://login.example.com",
		"ftp://x/": "to a location that cannot",
		"":         "to a location that cannot",
		"https://" + strings.Repeat("a", 300) + "/":  "to a location that cannot",
		"https://user:pw@h.example/":                 "another page of https://h.example;",
		"https://h.example/" + canaryURL() + "/path": "another page of https://h.example;",
	} {
		t.Run(location, func(t *testing.T) {
			t.Parallel()
			play(t, nil, func(s *scene) {
				s.model.script = func(int, *http.Request, []byte) act { return respond(307, "", "Location: "+location) }
				_, err := s.client.List(s.ctx, w1)
				if e := s.wantKind(err, KindRedirect); !strings.Contains(e.Error(), want) || strings.Contains(e.Error(), "pw") {
					s.Errorf("%v, want %s", e, want)
				}
				s.wantRequests("GET")
			})
		})
	}
}

func canaryURL() string { return strings.ReplaceAll(canary, `"`, "") }

// TestBackoff: full jitter between nothing and a ceiling that doubles.
func TestBackoff(t *testing.T) {
	t.Parallel()
	jitter := 0.0
	c := &Client{cfg: Config{}.withDefaults(), jitter: func() float64 { return jitter }}
	for _, tc := range []struct {
		jitter float64
		n      int
		asked  time.Duration
		want   string
	}{
		{0, 0, 0, "0s"}, {0.5, 0, 0, "250ms"}, {1, 3, 0, "4s"}, {1, 6, 0, "30s"}, {1, 63, 0, "30s"}, {0.5, 1000, 0, "15s"},
		{0, 0, time.Second, "1s"}, {1, 0, time.Second, "1.5s"}, {1, 5, time.Hour, "30s"},
	} {
		jitter = tc.jitter
		if got := fmt.Sprint(c.backoff(tc.n, tc.asked)); got != tc.want {
			t.Errorf("backoff(%d, %s) with jitter %g = %s, want %s", tc.n, tc.asked, tc.jitter, got, tc.want)
		}
	}
}
