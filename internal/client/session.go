package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// The names of the session cookie: the second one where Sim's own URL is
// https. WIRE.md section 2.
const (
	cookieName       = "better-auth.session_token"
	secureCookieName = "__Secure-better-auth.session_token"
)

const (
	signInPath  = "/api/auth/sign-in/email"
	sessionPath = "/api/auth/get-session"
)

// session is where the cookie of every request comes from: the configuration,
// or a sign-in that all requests share.
type session struct {
	client          *Client
	email, password string

	mu sync.Mutex
	// value is the cookie's value as it is sent, empty before the
	// sign-in.
	value   string
	renewed bool
	refused *failure // a definite refusal of email and password; it stands
	signIn  *inFlight[string]
}

func newSession(c *Client, cfg Config) *session {
	s := &session{client: c, email: cfg.Email, password: cfg.Password}
	if cfg.SessionToken != "" {
		token, _ := normaliseSessionToken(cfg.SessionToken)
		s.value = url.QueryEscape(token)
	}
	return s
}

// cookie returns the value of the session cookie and signs in for it when
// there is none yet. Callers at the same time share one sign-in.
func (s *session) cookie(ctx context.Context) (string, *failure) {
	s.mu.Lock()
	if s.value != "" || s.refused != nil {
		defer s.mu.Unlock()
		return s.value, s.refused
	}
	if s.signIn == nil || !s.signIn.join() {
		s.startSignIn(ctx)
	}
	current := s.signIn
	s.mu.Unlock()
	return current.wait(ctx)
}

// startSignIn starts a sign-in and joins it. The caller holds the lock.
func (s *session) startSignIn(ctx context.Context) {
	var own *inFlight[string]
	own = launch(ctx, func(ctx context.Context) (string, *failure) {
		value, f := s.fetch(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.signIn == own { // one that was canceled has a successor
			s.signIn = nil
		}
		switch {
		case f == nil:
			s.value = value
		case f.kind == KindSignIn:
			s.refused = f
		}
		return value, f
	})
	own.join()
	s.signIn = own
}

// CheckSession returns the error that every later request would meet: a
// refused sign-in or session, an endpoint that cannot be reached or is
// elsewhere, a certificate that is not trusted. It sends one request: a
// sign-in, or with a session token the question who is signed in.
//
// A gateway may not let that question through, and respond in place of Sim. Then a
// second request asks for the keys of a workspace: whatever Sim says, it is there.
// workspaceID is one that later requests are about, or "".
func (c *Client) CheckSession(ctx context.Context, workspaceID string) error {
	if c.session.email != "" {
		if _, f := c.session.cookie(ctx); f != nil {
			return c.fail(OpSignIn, byok.Pool{}, "", f)
		}
		return nil
	}
	said, f := c.askSession(ctx)
	switch {
	case f == nil && said == signedOut:
		f = &failure{kind: KindUnauthorized, status: http.StatusOK, url: c.base + sessionPath}
	case f == nil && strings.HasPrefix(said, "{"):
		return nil
	case f == nil, f.kind == KindRedirect && !f.moved,
		!slices.Contains([]Kind{KindNetwork, KindCertificate, KindServer, KindRedirect, KindCanceled}, f.kind):
		if f = c.askForKeys(ctx, byok.WorkspaceScope(cmp.Or(workspaceID, "-"))); f == nil {
			return nil
		}
	}
	return c.fail(OpSession, byok.Pool{}, "", f)
}

// askForKeys returns a failure if it is not Sim that responds to a request for the
// keys of a scope.
func (c *Client) askForKeys(ctx context.Context, scope byok.Scope) *failure {
	f := c.send(ctx, &request{
		op: OpSession, scope: scope.Kind, method: http.MethodGet, path: scope.KeysPath(), limit: maxListBytes,
		decode: func(body []byte, h http.Header) error {
			_, err := decodeList(body, h.Get("Content-Type"))
			return err
		},
	})
	if f.is(KindProtocol) || f.is(KindRedirect) {
		return f
	}
	return nil
}

// signedOut is what the server says of a session that is not valid. WIRE.md
// section 2.
const signedOut = "null"

// askSession returns what the server says of the session: signedOut, or a JSON
// object of it and its user.
func (c *Client) askSession(ctx context.Context) (said string, f *failure) {
	f = c.send(ctx, &request{
		op: OpSession, method: http.MethodGet, path: sessionPath, limit: maxResponseBytes, retries: c.cfg.MaxRetries,
		decode: func(body []byte, _ http.Header) error {
			said = string(bytes.TrimSpace(body))
			return nil
		},
	})
	return said, f
}

// renew reports whether a request that was refused with stale is worth
// another attempt: another request has renewed the session since, or this call
// clears the way for the one renewal that a Client has.
func (s *session) renew(stale string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.email == "":
		return false
	case s.value != stale:
		return true
	case s.renewed:
		return false
	}
	s.renewed, s.value = true, ""
	return true
}

// fetch signs in. The request has neither Cookie nor Origin: with a cookie it
// would need an origin that the server trusts. WIRE.md section 2.
func (s *session) fetch(ctx context.Context) (string, *failure) {
	body, err := json.Marshal(map[string]string{"email": s.email, "password": s.password})
	if err != nil {
		return "", &failure{op: OpSignIn, kind: KindInvalid, refused: true}
	}
	var value string
	_, f := s.client.repeat(ctx, &request{
		op: OpSignIn, method: http.MethodPost, path: signInPath, body: body,
		limit: maxResponseBytes, retries: s.client.cfg.MaxRetries,
		decode: func(body []byte, header http.Header) (err error) {
			value, err = sessionCookie(body, header)
			return err
		},
	}, "")

	if f != nil {
		f.op, f.refused = OpSignIn, true // the request that waits was never sent
		return "", f
	}
	return value, nil
}

// sessionCookie finds the session among the cookies of a sign-in's response.
func sessionCookie(body []byte, header http.Header) (string, error) {
	for _, cookie := range (&http.Response{Header: header}).Cookies() {
		if cookie.Name != cookieName && cookie.Name != secureCookieName {
			continue
		}
		token, problem := normaliseSessionToken(cookie.Value)
		if problem != "" {
			return "", errors.New("its session cookie is malformed")
		}
		return url.QueryEscape(token), nil
	}
	var parsed struct {
		TwoFactor bool `json:"twoFactorRedirect"`
	}
	if json.Unmarshal(body, &parsed) == nil && parsed.TwoFactor {
		return "", errors.New("the user has to give a second factor, so email and password are not enough; use a session token")
	}
	return "", errors.New("it sets no session cookie; the endpoint may be wrong")
}
