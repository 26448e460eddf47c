// Package api is the reference server's HTTP: routing, decoding, validation
// errors, status codes and bodies, as WIRE.md says them. It has no SQL: access
// says who may do what, keystore keeps the keys, seal and rotation open and
// choose them. The server package builds it.
//
// A request goes one way: decode, authorise, act, encode. Everything that the
// real server does not have lives under /reference/.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/singlekeys"
)

// Config is what an API is made of. All of it is needed.
type Config struct {
	Access *access.Access
	Store  keystore.Store
	// DB is where Store keeps its keys.
	DB       *database.DB
	Sealer   *seal.Sealer
	Rotation *rotation.Rotation
	// MaySeal reports why Sealer must not seal, if so.
	MaySeal func(context.Context) error
	// Lifetime ends when the server may no longer wait for writes.
	Lifetime context.Context //nolint:containedctx // the server's, not a request's
	// Activity counts what Rotation serves.
	Activity *rotation.Activity
	// Single holds the mothership's keys.
	Single *singlekeys.Store
	// Ping reports whether the database responds.
	Ping func(context.Context) error

	// AppURL is the public URL, without a path.
	AppURL *url.URL
	// InternalSecret opens POST /reference/resolve.
	InternalSecret string
	// Hosted entitles every organization to keys.
	Hosted bool
	// DisableSignUp refuses new users.
	DisableSignUp bool
	// TrustedProxies are the peers whose X-Forwarded-For is believed; nil means
	// those on this machine.
	TrustedProxies []netip.Prefix
	// RateLimit limits sign-in and sign-up.
	RateLimit bool
	// DisableAuth makes every request act as the anonymous user.
	DisableAuth bool

	Logger *slog.Logger
	// Audit gets the audit log.
	Audit *slog.Logger
	Now   func() time.Time
	// Random must be safe for concurrent use.
	Random io.Reader
}

// API responds to HTTP requests. It is safe for concurrent use.
type API struct {
	Config
	// SameOrigin refuses what a page of another site sends. The recorded routes
	// do without it, as in the real server.
	SameOrigin *http.CrossOriginProtection

	cookies    cookieNames
	corsHeader http.Header
	limiter    *limiter
	metrics    *metrics
	lists      *renderedLists
	// shown are lists that cannot have changed since they were rendered.
	shown *database.Memo[shownList, *rendered]
	// large holds the token of the request that has something large.
	large chan struct{}
}

// New returns an API.
func New(cfg Config) *API {
	return &API{
		Config:     cfg,
		SameOrigin: newSameOrigin(cfg.AppURL.Scheme + "://" + cfg.AppURL.Host),
		cookies:    namesFor(cfg.AppURL),
		corsHeader: newCORS(cfg.AppURL.Scheme + "://" + cfg.AppURL.Host),
		limiter:    newLimiter(cfg.Now),
		metrics:    newMetrics(),
		lists:      newRenderedLists(),
		shown:      database.NewMemo[shownList, *rendered](cfg.DB),
		large:      make(chan struct{}, 1),
	}
}

// maxBody is the largest request body, in bytes. WIRE.md section 5.
const maxBody = 10 << 20

// What is read of a body that the route has not read, before the response goes
// out: a client that is still sending then reads the response rather than a
// reset. One that pauses gets the response at once.
const (
	maxDrain   = maxBody + 4<<20
	drainPause = 200 * time.Millisecond
	drainTime  = 10 * time.Second
)

// route is one path of the API.
type route struct {
	// name is the path with {id} for what varies, for logs and metrics.
	name    string
	methods methods
	// id is the {id} of the path.
	id string
}

// methods are what a path has, by HTTP method.
type methods map[string]func(*exchange) response

// The methods of the paths with keys.
var (
	workspacesMethods    = methods{http.MethodGet: listWorkspaces}
	workspaceKeysMethods = methods{
		http.MethodGet: listWorkspaceKeys, http.MethodPost: saveWorkspaceKey, http.MethodDelete: deleteWorkspaceKey,
	}
	inheritedMethods        = methods{http.MethodGet: inheritedStatus}
	organizationKeysMethods = methods{
		http.MethodGet: listOrganizationKeys, http.MethodPost: saveOrganizationKey, http.MethodDelete: deleteOrganizationKey,
	}
	copilotMethods = methods{http.MethodGet: listCopilotKeys, http.MethodPost: saveCopilotKey, http.MethodDelete: deleteCopilotKey}
)

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.serve(w, r, hidesNothing) }

func (a *API) serve(w http.ResponseWriter, r *http.Request, isHidden func(path string) bool) {
	x := &exchange{API: a, Request: r, base: r.Context(), isHidden: isHidden, started: time.Now()}
	defer x.end()
	found, out := a.handle(x)
	if len(out.body) <= largeBody {
		x.giveLarge()
	}
	if !x.drained && r.ContentLength != 0 {
		Drain(w, r)
	}
	h := w.Header()
	if x.cors {
		maps.Copy(h, a.corsHeader) // nobody changes the values
	}
	if len(x.setCookies) > 0 {
		h["Set-Cookie"] = x.setCookies
	}
	if x.id != "" {
		h.Set("X-Request-Id", x.id)
	}
	x.auditRefused(found.name, out)
	// Before the response goes out: whoever has it finds it counted.
	a.metrics.observe(found.name, r.Method, out.status, time.Since(x.started))
	if err := out.write(w, r); err != nil {
		x.failed = errors.Join(x.failed, err)
	}
	x.log(out.status)
}

// Drain reads the rest of a body while it comes without a pause, before the
// response goes out. Where there is more, the connection ends with the response.
func Drain(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if r.Header.Get("Expect") == "" {
		var buffer [32 << 10]byte
		end := time.Now().Add(drainTime)
		for read := 0; read < maxDrain && time.Now().Before(end); {
			if control.SetReadDeadline(time.Now().Add(drainPause)) != nil {
				break // no connection of net/http
			}
			n, err := r.Body.Read(buffer[:])
			read += n
			if errors.Is(err, io.EOF) {
				_ = control.SetReadDeadline(time.Time{}) // net/http sets that of the next request
				return
			}
			if err != nil {
				break
			}
		}
	}
	// Otherwise net/http would wait for the body before it responds.
	_ = control.EnableFullDuplex()
	w.Header().Set("Connection", "close")
}

// handle routes a request. The order is that of Next: a path that is not
// clean, OPTIONS, a method that is none, a path that is none, a method that the
// path does not have; only then the route, which authenticates. WIRE.md
// section 1.
func (a *API) handle(x *exchange) (route, response) {
	r := x.Request
	path := r.URL.EscapedPath()
	x.cors = path == "/api" || strings.HasPrefix(path, "/api/")
	if !strings.HasPrefix(path, "/reference/") {
		if clean := cleanPath(path); clean != path {
			location := clean
			if r.URL.RawQuery != "" {
				location += "?" + r.URL.RawQuery
			}
			return route{name: "redirect"}, response{
				status: http.StatusPermanentRedirect, body: []byte(location), contentType: noContentType,
				header: http.Header{"Location": {location}},
			}
		}
	}
	if x.cors && r.Method == http.MethodOptions {
		return route{name: "preflight"}, response{status: http.StatusNoContent, header: http.Header{"Access-Control-Max-Age": {"86400"}}}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return route{name: "unknown method"}, response{status: http.StatusBadRequest, contentType: noContentType}
	}
	found, exists := a.route(path)
	if !exists || x.isHidden(path) {
		return route{name: "not found"}, notFoundPage
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	do := found.methods[method]
	if do == nil {
		return found, response{status: http.StatusMethodNotAllowed, contentType: noContentType}
	}
	x.id = newRequestID(a.Random)
	x.pathID = found.id
	return found, do(x)
}

// route finds the route of an escaped, clean path.
func (a *API) route(path string) (route, bool) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	at := func(i int) string {
		if i < len(segments) {
			return segments[i]
		}
		return ""
	}
	id, err := url.PathUnescape(at(2))
	if err != nil {
		return route{}, false
	}
	switch {
	case at(0) == "api" && at(1) == "workspaces" && len(segments) == 2:
		return route{byok.WorkspacesPath, workspacesMethods, ""}, true
	case at(0) == "api" && at(1) == "workspaces" && at(3) == "byok-keys" && len(segments) == 4:
		return route{"/api/workspaces/{id}/byok-keys", workspaceKeysMethods, id}, true
	case at(0) == "api" && at(1) == "workspaces" && at(3) == "byok-keys" && at(4) == "inherited-status" && len(segments) == 5:
		return route{"/api/workspaces/{id}/byok-keys/inherited-status", inheritedMethods, id}, true
	case at(0) == "api" && at(1) == "organizations" && at(3) == "byok-keys" && len(segments) == 4:
		return route{"/api/organizations/{id}/byok-keys", organizationKeysMethods, id}, true
	case at(0) == "api" && at(1) == "copilot" && at(2) == "byok" && len(segments) == 3:
		return route{"/api/copilot/byok", copilotMethods, ""}, true
	case at(0) == "api" && at(1) == "auth" && len(segments) > 2:
		return authRoute(strings.Join(segments[2:], "/")), true
	case at(0) == "reference" && len(segments) == 2:
		return referenceRoute(at(1))
	}
	return route{}, false
}

// cleanPath merges runs of slashes or else takes the trailing slash off, one
// step per redirect as Next does.
func cleanPath(path string) string {
	merged := strings.ReplaceAll(path, `\`, "/")
	for strings.Contains(merged, "//") {
		merged = strings.ReplaceAll(merged, "//", "/")
	}
	if merged == path && len(path) > 1 {
		merged = strings.TrimSuffix(path, "/")
	}
	return merged
}

// notFoundPage stands for the real server's page, with its headers.
var notFoundPage = response{
	status:      http.StatusNotFound,
	contentType: "text/html; charset=utf-8",
	body:        []byte("<!DOCTYPE html><html><head><title>404: This page could not be found.</title></head><body><h1>404</h1><h2>This page could not be found.</h2></body></html>"),
	header:      http.Header{"Cache-Control": {"private, no-cache, no-store, max-age=0, must-revalidate"}},
}

// newCORS returns a header that is constant, whatever the origin of the request.
// WIRE.md section 1.
func newCORS(origin string) http.Header {
	return http.Header{
		"Access-Control-Allow-Credentials": {"true"},
		"Access-Control-Allow-Headers":     {"X-CSRF-Token, X-Requested-With, Accept, Accept-Version, Content-Length, Content-MD5, Content-Type, Date, X-Api-Version, X-API-Key, Authorization"},
		"Access-Control-Allow-Methods":     {"GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"},
		"Access-Control-Allow-Origin":      {origin},
		"Access-Control-Expose-Headers":    {"Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id, X-Run-Id"},
		"Vary":                             {"Origin"},
	}
}

func (a *API) origin() string { return a.AppURL.Scheme + "://" + a.AppURL.Host }
