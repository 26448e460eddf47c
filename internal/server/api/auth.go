package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
)

// authRoute is below /api/auth/, where GET and POST reach a router of their
// own, which knows the methods of its paths.
func authRoute(path string) route {
	var get, post func(*exchange) response
	switch path {
	case "sign-in/email":
		post = signIn
	case "sign-up/email":
		post = signUp
	case "sign-out":
		post = signOut
	case "get-session":
		get = getSession
	}
	name := "/api/auth/" + path
	if get == nil && post == nil {
		name = "/api/auth/unknown"
	}
	return route{name: name, methods: methods{
		http.MethodGet: orNotFound(get), http.MethodPost: orNotFound(post),
	}}
}

func orNotFound(do func(*exchange) response) func(*exchange) response {
	if do != nil {
		return do
	}
	return func(*exchange) response { return response{status: http.StatusNotFound, contentType: noContentType} }
}

// authError is an error response of the auth routes: {message,code}.
func authError(status int, message, code string) *response {
	return &response{status: status, body: new(object).string("message", message).string("code", code).end()}
}

// The errors of sign-in and sign-up. WIRE.md section 2.
var (
	errBadJSON       = authError(400, "Invalid JSON in request body", "BAD_REQUEST")
	errNoOrigin      = authError(403, "Missing or null Origin", "MISSING_OR_NULL_ORIGIN")
	errForeignOrigin = authError(403, "Invalid origin", "INVALID_ORIGIN")
	errCrossSite     = authError(403, "Cross-site navigation login blocked. This request appears to be a CSRF attack.", "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED")
	errBadEmail      = authError(400, "Invalid email", "INVALID_EMAIL")
	errCredentials   = authError(401, "Invalid email or password", "INVALID_EMAIL_OR_PASSWORD")
	errBannedUser    = authError(403, "You have been banned from this application. Please contact support if you believe this is an error.", "BANNED_USER")
	errPasswordShort = authError(400, "Password too short", "PASSWORD_TOO_SHORT")
	errPasswordLong  = authError(400, "Password too long", "PASSWORD_TOO_LONG")
	errAuthTooLarge  = authError(413, "Request body exceeds the maximum allowed size of 65536 bytes", "PAYLOAD_TOO_LARGE")
	errSignUpClosed  = authError(400, "Email and password sign up is not enabled", "EMAIL_PASSWORD_SIGN_UP_DISABLED")
	errUserExists    = authError(422, "User already exists. Use another email.", "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL")
)

// The paths that the rate limit counts by.
const (
	signInPath = "/sign-in/email"
	signUpPath = "/sign-up/email"
)

// signIn is POST /api/auth/sign-in/email.
func signIn(x *exchange) response {
	body, refused := x.enter(signInPath, "email", "password")
	if refused != nil {
		return *refused
	}
	if refused := x.checkFirstLogin(); refused != nil {
		return *refused
	}
	email, password := body.field("email").string(), body.field("password").string()
	if !access.IsEmail(email) {
		return *errBadEmail
	}
	user, err := x.Access.CheckPassword(x.ctx(), email, password)
	x.refusedUser = user.ID
	switch {
	case errors.Is(err, access.ErrBadCredentials):
		x.refusal = "wrong password"
		if user.ID == "" {
			x.refusal = "unknown user"
		}
		return *errCredentials
	case errors.Is(err, access.ErrBanned):
		return *errBannedUser
	case err != nil:
		return x.fail(err, "")
	}
	in, err := x.startSession(user, body)
	switch {
	case errors.Is(err, access.ErrBadCredentials):
		x.refusal = "password changed during the sign-in"
		return *errCredentials
	case errors.Is(err, access.ErrBanned):
		return *errBannedUser
	case err != nil:
		return x.fail(err, "")
	}
	x.writeAudit("sign-in")
	o := new(object).raw("redirect", "false").string("token", in.Session.Token)
	return ok(o.raw("user", toJSON(in.User)).end())
}

// signUp is POST /api/auth/sign-up/email.
func signUp(x *exchange) response {
	body, refused := x.enter(signUpPath, "name", "email", "password")
	if refused != nil {
		return *refused
	}
	if refused := x.checkFirstLogin(); refused != nil {
		return *refused
	}
	password := body.field("password")
	switch {
	case password.text.length() < 8:
		return *errPasswordShort
	case password.text.length() > 128:
		return *errPasswordLong
	}
	n := access.NewUser{Email: body.field("email").string(), Password: password.string(), Name: body.field("name").string()}
	if image := body.field("image"); image.kind == stringKind {
		url := image.string()
		n.Image = &url
	}
	user, err := x.Access.AddUser(x.ctx(), n)
	if errors.Is(err, access.ErrEmailTaken) {
		return *errUserExists
	}
	if err != nil {
		return x.fail(err, "")
	}
	in, err := x.startSession(user, body)
	if err != nil {
		return x.fail(err, "")
	}
	x.writeAudit("sign-up")
	return ok(new(object).string("token", in.Session.Token).raw("user", toJSON(in.User)).end())
}

// signOut is POST /api/auth/sign-out. The body decides nothing, so that of a
// client without a session is not awaited.
func signOut(x *exchange) response {
	token, hasSession := x.sessionToken(access.ParseCookies(x.Request.Header["Cookie"]))
	if hasSession {
		_, err := x.Access.FindSession(x.ctx(), token)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return x.fail(err, "")
		}
		hasSession = err == nil
	}
	const allowed = "application/json"
	refused := x.checkMediaType(x.Request.ContentLength != 0, allowed)
	if hasSession {
		_, refused = x.readAuthBody(allowed)
	}
	if refused == nil {
		refused = x.checkOriginWithCookies()
	}
	if refused != nil {
		return *refused
	}
	if hasSession {
		if err := x.Access.EndSession(x.ctx(), token); err != nil {
			return x.fail(err, "")
		}
	}
	x.clearSession()
	return ok(success)
}

// getSession is GET /api/auth/get-session: the session and its user, or null.
func getSession(x *exchange) response {
	if x.DisableAuth {
		return ok(anonymousSession(x))
	}
	in, err := x.session()
	switch {
	case errors.Is(err, access.ErrNotFound):
		if _, signed := x.sessionToken(access.ParseCookies(x.Request.Header["Cookie"])); signed {
			x.clearSession()
		}
		return ok([]byte("null"))
	case err != nil:
		return x.fail(err, "")
	}
	return ok(new(object).raw("user", toJSON(in.User)).raw("session", toJSON(in.Session)).end())
}

// anonymousSession is who everybody is while authentication is disabled.
func anonymousSession(x *exchange) []byte {
	now := x.Now()
	at, until := byok.FormatTime(now), byok.FormatTime(now.Add(365*24*60*60*1e9))
	user := new(object).string("id", access.AnonymousID).string("name", "Anonymous").string("email", access.AnonymousEmail).
		raw("emailVerified", "true").raw("image", "null").string("createdAt", at).string("updatedAt", at).end()
	session := new(object).string("id", "anonymous-session").string("userId", access.AnonymousID).string("expiresAt", until).
		string("createdAt", at).string("updatedAt", at).string("token", "anonymous-token").raw("ipAddress", "null").raw("userAgent", "null").end()
	return new(object).raw("user", string(user)).raw("session", string(session)).end()
}

// enter is what sign-in and sign-up begin with, in this order: rate limit,
// whether sign-up is closed, body, origin of a request with cookies, types of the
// body.
func (x *exchange) enter(path string, required ...string) (value, *response) {
	if x.RateLimit {
		if wait := x.limiter.take(x.clientAddress(), path); wait > 0 {
			return value{}, &response{
				status: http.StatusTooManyRequests, contentType: noContentType,
				body:   new(object).string("message", "Too many requests. Please try again later.").end(),
				header: http.Header{"X-Retry-After": {itoa(wait)}},
			}
		}
	}
	if path == signUpPath && x.DisableSignUp { // whatever the body says
		x.refusal = "sign-up is closed"
		return value{}, errSignUpClosed
	}
	body, refused := x.readAuthBody("application/x-www-form-urlencoded", "application/json")
	if refused != nil {
		return body, refused
	}
	if refused := x.checkOriginWithCookies(); refused != nil {
		return body, refused
	}
	return body, checkTypes(body, path == signUpPath, required)
}

// maxAuthBody is the largest body of the auth routes, in bytes. Whoever sends it
// has no session.
const maxAuthBody = 64 << 10

// authFields are what the auth routes read of a body.
var authFields = []string{"name", "email", "password", "image", "callbackURL", "rememberMe"}

// readAuthBody reads a body of one of the allowed types; undefined where there
// is none and none is needed.
func (x *exchange) readAuthBody(allowed ...string) (value, *response) {
	raw, err := x.read(maxAuthBody)
	if errors.Is(err, errOverLimit) {
		return value{}, errAuthTooLarge
	}
	if err != nil {
		return value{}, errBadJSON
	}
	if raw == "" && x.mediaType() == "" {
		return value{kind: undefinedKind}, nil
	}
	if refused := x.checkMediaType(raw != "", allowed...); refused != nil {
		return value{}, refused
	}
	if x.mediaType() == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(raw)
		if err != nil {
			return value{}, errBadJSON
		}
		v := value{kind: objectKind, fields: map[string]value{}}
		for _, name := range authFields {
			if values := form[name]; len(values) > 0 {
				v.fields[name] = value{kind: stringKind, text: text(strings.ToValidUTF8(values[len(values)-1], "\ufffd"))}
			}
		}
		return v, nil
	}
	v, ok := parseJSON(raw, authFields...)
	if !ok {
		return v, errBadJSON
	}
	return v, nil
}

func (x *exchange) mediaType() string {
	return strings.ToLower(strings.TrimSpace(strings.Split(x.Request.Header.Get("Content-Type"), ";")[0]))
}

// checkMediaType refuses a body of another type than the allowed ones. A request
// with neither a body nor a type passes.
func (x *exchange) checkMediaType(hasBody bool, allowed ...string) *response {
	mediaType := x.mediaType()
	if slices.Contains(allowed, mediaType) || mediaType == "" && !hasBody {
		return nil
	}
	message := `Content-Type "` + x.Request.Header.Get("Content-Type") + `" is not allowed. Allowed types: ` + strings.Join(allowed, ", ")
	if mediaType == "" {
		message = "Content-Type is required. Allowed types: " + strings.Join(allowed, ", ")
	}
	return authError(http.StatusUnsupportedMediaType, message, "UNSUPPORTED_MEDIA_TYPE")
}

// checkTypes validates the fields that sign-in and sign-up share; the message
// joins all issues.
func checkTypes(body value, isSignUp bool, required []string) *response {
	if body.kind != objectKind {
		return validationError("[body] Invalid input: expected object, received " + string(body.kind))
	}
	var issues []string
	for _, name := range required {
		f := body.field(name)
		switch {
		case f.kind != stringKind:
			issues = append(issues, "[body."+name+"] Invalid input: expected string, received "+string(f.kind))
		case isSignUp && name == "email" && !access.IsEmail(f.string()):
			issues = append(issues, "[body.email] Invalid email address")
		case isSignUp && name == "password" && len(f.text) == 0:
			issues = append(issues, "[body.password] Too small: expected string to have >=1 characters")
		}
	}
	optional := []string{"callbackURL"}
	if isSignUp {
		optional = []string{"image", "callbackURL"}
	}
	for _, name := range optional {
		if f := body.field(name); f.kind != undefinedKind && f.kind != stringKind {
			issues = append(issues, "[body."+name+"] Invalid input: expected string, received "+string(f.kind))
		}
	}
	if f := body.field("rememberMe"); f.kind != undefinedKind && f.kind != booleanKind {
		issues = append(issues, "[body.rememberMe] Invalid input: expected boolean, received "+string(f.kind))
	}
	if len(issues) == 0 {
		return nil
	}
	return validationError(strings.Join(issues, "; "))
}

func validationError(message string) *response {
	return authError(http.StatusBadRequest, message, "VALIDATION_ERROR")
}

// checkOriginWithCookies refuses a request that a foreign page may have sent
// with the user's cookies.
func (x *exchange) checkOriginWithCookies() *response {
	if _, has := x.Request.Header["Cookie"]; !has {
		return nil
	}
	return x.checkOrigin()
}

// checkFirstLogin refuses a sign-in that a foreign page sends for its visitor,
// who has no cookies yet. A client that sends neither Origin nor Referer nor
// Fetch Metadata is no browser.
func (x *exchange) checkFirstLogin() *response {
	h := x.Request.Header
	if _, has := h["Cookie"]; has {
		return nil // checked before
	}
	site, mode, dest := strings.TrimSpace(h.Get("Sec-Fetch-Site")), strings.TrimSpace(h.Get("Sec-Fetch-Mode")), strings.TrimSpace(h.Get("Sec-Fetch-Dest"))
	switch {
	case site == "cross-site" && mode == "navigate":
		return errCrossSite
	case site != "" || mode != "" || dest != "", h.Get("Origin") != "", h.Get("Referer") != "":
		return x.checkOrigin()
	}
	return nil
}

func (x *exchange) checkOrigin() *response {
	origin := x.Request.Header.Get("Origin")
	if origin == "" {
		origin = x.Request.Header.Get("Referer")
	}
	if origin == "" || origin == "null" {
		return errNoOrigin
	}
	if u, err := url.Parse(origin); err != nil || u.Scheme+"://"+u.Host != x.origin() {
		return errForeignOrigin
	}
	return nil
}

// startSession signs a user in and sets the cookies.
func (x *exchange) startSession(user access.User, body value) (access.SignedIn, error) {
	remember, lifetime := true, access.SessionLifetime
	if f := body.field("rememberMe"); f.kind == booleanKind && !f.yes {
		remember, lifetime = false, access.BriefLifetime
	}
	in, err := x.Access.StartSession(x.ctx(), user, lifetime, x.clientAddress(), x.Request.UserAgent())
	if err != nil {
		return in, err
	}
	x.actor = user
	return in, x.setSession(in, remember)
}

// clientAddress is that of the peer, or what a trusted proxy forwards.
func (x *exchange) clientAddress() string {
	peer, err := netip.ParseAddrPort(x.Request.RemoteAddr)
	if err != nil {
		return ""
	}
	return forwardedAddress(x.TrustedProxies, peer.Addr().Unmap(), x.Request.Header.Values("X-Forwarded-For"))
}

// forwardedAddress returns whom a peer forwards for, or "" where that is
// ambiguous. Anybody can send the header, so only that of a trusted proxy
// counts.
//
// Without a list of proxies those on this machine are trusted, and a header of
// several addresses is ambiguous, as on the real server. WIRE.md section 2. With
// a list, the last address that is no trusted proxy counts: the proxies appended
// what they saw to what the client made up.
func forwardedAddress(trusted []netip.Prefix, peer netip.Addr, header []string) string {
	isTrusted := func(a netip.Addr) bool {
		if trusted == nil {
			return a.IsLoopback()
		}
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
	}
	if len(header) == 0 || !isTrusted(peer) {
		return peer.String()
	}
	forwarded := strings.Split(strings.Join(header, ","), ",")
	if trusted == nil && len(forwarded) > 1 {
		return ""
	}
	for _, hop := range slices.Backward(forwarded) {
		address, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return ""
		}
		if address = address.Unmap(); trusted == nil || !isTrusted(address) {
			return address.String()
		}
	}
	return peer.String()
}

// toJSON encodes v without HTML escapes.
func toJSON(v any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "null" // sessions and users always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}
