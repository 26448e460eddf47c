package api

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// cookieNames are the cookies of one deployment. A deployment accepts only its
// own names. WIRE.md section 2.
type cookieNames struct {
	token, data, brief string
	secure             bool
}

func namesFor(appURL *url.URL) cookieNames {
	prefix, secure := "better-auth.", appURL.Scheme == "https"
	if secure {
		prefix = "__Secure-" + prefix
	}
	return cookieNames{token: prefix + "session_token", data: prefix + "session_data", brief: prefix + "dont_remember", secure: secure}
}

// browserSession is the Max-Age of a cookie that ends with the browser.
const browserSession = -1

// setCookie adds a Set-Cookie; maxAge is in seconds, browserSession leaves it
// out.
func (x *exchange) setCookie(name, value string, maxAge int) {
	var b strings.Builder
	b.Grow(len(name) + len(value) + len("=; Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax"))
	b.WriteString(name + "=" + value)
	if maxAge != browserSession {
		b.WriteString("; Max-Age=" + itoa(maxAge))
	}
	b.WriteString("; Path=/; HttpOnly")
	if x.cookies.secure {
		b.WriteString("; Secure")
	}
	b.WriteString("; SameSite=Lax")
	x.setCookies = append(x.setCookies, b.String())
}

func seconds(d time.Duration) int { return int(d / time.Second) }

// setSession sets the cookies of a new or extended session.
func (x *exchange) setSession(in access.SignedIn, remember bool) error {
	maxAge := browserSession
	if remember {
		maxAge = seconds(access.SessionLifetime)
	}
	x.setCookie(x.cookies.token, x.Access.SignCookie(in.Session.Token), maxAge)
	if !remember {
		x.setCookie(x.cookies.brief, x.Access.SignCookie("true"), browserSession)
	}
	return x.setCache(in, remember)
}

// briefCache is how long the session_data cookie of a session that is not to
// be remembered stands for a lookup.
const briefCache = time.Minute

// maxCookie is the largest value of a cookie that browsers keep, in bytes. A
// session_data cookie that would exceed it is left out; the session is looked
// up then.
const maxCookie = 4093

func (x *exchange) setCache(in access.SignedIn, remember bool) error {
	lifetime, maxAge := access.CacheLifetime, seconds(access.CacheLifetime)
	if !remember {
		lifetime, maxAge = briefCache, browserSession
	}
	data, err := x.Access.CacheSession(in, lifetime)
	if err != nil {
		return err
	}
	if len(data) <= maxCookie {
		x.setCookie(x.cookies.data, data, maxAge)
	}
	return nil
}

func (x *exchange) clearSession() {
	for _, name := range []string{x.cookies.token, x.cookies.data, x.cookies.brief} {
		x.setCookie(name, "", 0)
	}
}

// sessionToken returns the token of a rightly signed session cookie.
func (x *exchange) sessionToken(cookies map[string]string) (string, bool) {
	return x.Access.OpenCookie(cookies[x.cookies.token])
}

// session finds the request's session: in a fresh session_data cookie of the
// same token, or by lookup, which extends an old session and sets session_data
// again. access.ErrNotFound where there is none. WIRE.md section 2.
func (x *exchange) session() (access.SignedIn, error) {
	cookies := access.ParseCookies(x.Request.Header["Cookie"])
	token, ok := x.sessionToken(cookies)
	if !ok {
		return access.SignedIn{}, access.ErrNotFound
	}
	if data, ok := cookies[x.cookies.data]; ok && !x.withoutCache {
		if in, ok := x.Access.OpenCache(x.ctx(), data, token); ok {
			return in, nil
		}
	}
	in, err := x.Access.FindSession(x.ctx(), token)
	if err != nil {
		return in, err
	}
	if brief, ok := x.Access.OpenCookie(cookies[x.cookies.brief]); ok && brief != "" {
		return in, nil
	}
	if !x.Access.IsDue(in.Session) {
		return in, x.setCache(in, true)
	}
	if in, err = x.Access.Extend(x.ctx(), in); err != nil {
		return in, err
	}
	return in, x.setSession(in, true)
}

// authenticate finds out who acts, or fails as unauthorized.
func (x *exchange) authenticate() error {
	if x.DisableAuth {
		x.actor = access.User{ID: access.AnonymousID}
		return nil
	}
	in, err := x.session()
	if errors.Is(err, access.ErrNotFound) {
		return errUnauthorized
	}
	x.actor = in.User
	return err
}
