// Package api is the reference server's HTTP: routing, decoding, validation
// errors, status codes and bodies, as WIRE.md says them. It has no SQL: access
// says who may do what, keystore keeps the keys, seal and rotation open and
// choose them. The server package builds it.
//
// A request walks one way: decode, authorise, act, encode. Everything that the
// real server does not have lives under /reference/.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/rotation"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
)

// Config is what an API is made of. All of it is needed.
type Config struct {
	Access   *access.Access
	Store    keystore.Store
	Sealer   *seal.Sealer
	Rotation *rotation.Rotation
	// Ping reports whether the database answers.
	Ping func(context.Context) error

	// AppURL is the public URL, without a path.
	AppURL *url.URL
	// InternalSecret opens POST /reference/resolve.
	InternalSecret string
	// Hosted entitles every organization to keys.
	Hosted bool
	// RateLimit limits sign-in and sign-up.
	RateLimit bool
	// DisableAuth makes every request act as the anonymous user.
	DisableAuth bool

	Logger *slog.Logger
	Now    func() time.Time
	// Random must be safe for concurrent use.
	Random io.Reader
}

// API answers HTTP requests. It is safe for concurrent use.
type API struct {
	Config
	cookies cookieNames
	limiter *limiter
	metrics *metrics
}

// New returns an API.
func New(cfg Config) *API {
	return &API{
		Config:  cfg,
		cookies: namesFor(cfg.AppURL),
		limiter: newLimiter(cfg.Now),
		metrics: newMetrics(),
	}
}

// maxBody is the largest request body, in bytes. WIRE.md section 5.
const maxBody = 10 << 20

// maxDrain is how much of an unread body is read before an answer, so that a
// client which is still sending reads the answer rather than a reset.
const maxDrain = maxBody + 4<<20

// route is one path of the API.
type route struct {
	// name is the path with {id} for what varies, for logs and metrics.
	name    string
	methods map[string]func(*exchange) answer
	// id is the {id} of the path.
	id string
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{API: a, Request: r, started: time.Now()}
	found, out := a.handle(x)
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
	}
	h := w.Header()
	for _, cookie := range x.setCookies {
		h.Add("Set-Cookie", cookie)
	}
	if x.id != "" {
		h.Set("X-Request-Id", x.id)
	}
	// Before the answer goes out: whoever has it finds it counted.
	a.metrics.observe(found.name, r.Method, out.status, time.Since(x.started))
	if err := out.write(w, r); err != nil {
		x.failed = errors.Join(x.failed, err)
	}
	x.log(out.status)
}

// handle routes a request. The order is that of Next: a path that is not
// clean, OPTIONS, a method that is none, a path that is none, a method that the
// path does not have; only then the route, which authenticates. WIRE.md
// section 1.
func (a *API) handle(x *exchange) (route, answer) {
	r := x.Request
	path := r.URL.EscapedPath()
	x.cors = path == "/api" || strings.HasPrefix(path, "/api/")
	if !strings.HasPrefix(path, "/reference/") {
		if clean := cleanPath(path); clean != path {
			location := clean
			if r.URL.RawQuery != "" {
				location += "?" + r.URL.RawQuery
			}
			return route{name: "redirect"}, x.finish(answer{
				status: http.StatusPermanentRedirect, body: []byte(location), contentType: noContentType,
				header: http.Header{"Location": {location}},
			})
		}
	}
	if x.cors && r.Method == http.MethodOptions {
		return route{name: "preflight"}, answer{status: http.StatusNoContent, header: a.corsHeader(true)}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return route{name: "unknown method"}, x.finish(answer{status: http.StatusBadRequest, contentType: noContentType})
	}
	found, exists := a.route(path)
	if !exists {
		return route{name: "not found"}, x.finish(notFoundPage)
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	do := found.methods[method]
	if do == nil {
		return found, x.finish(answer{status: http.StatusMethodNotAllowed, contentType: noContentType})
	}
	x.id = newRequestID(a.Random)
	x.pathID = found.id
	return found, x.finish(do(x))
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
		return route{name: byok.WorkspacesPath, methods: map[string]func(*exchange) answer{http.MethodGet: listWorkspaces}}, true
	case at(0) == "api" && at(1) == "workspaces" && at(3) == "byok-keys" && len(segments) == 4:
		return route{"/api/workspaces/{id}/byok-keys", map[string]func(*exchange) answer{
			http.MethodGet: listWorkspaceKeys, http.MethodPost: saveWorkspaceKey, http.MethodDelete: deleteWorkspaceKey,
		}, id}, true
	case at(0) == "api" && at(1) == "workspaces" && at(3) == "byok-keys" && at(4) == "inherited-status" && len(segments) == 5:
		return route{"/api/workspaces/{id}/byok-keys/inherited-status", map[string]func(*exchange) answer{
			http.MethodGet: inheritedStatus,
		}, id}, true
	case at(0) == "api" && at(1) == "organizations" && at(3) == "byok-keys" && len(segments) == 4:
		return route{"/api/organizations/{id}/byok-keys", map[string]func(*exchange) answer{
			http.MethodGet: listOrganizationKeys, http.MethodPost: saveOrganizationKey, http.MethodDelete: deleteOrganizationKey,
		}, id}, true
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
var notFoundPage = answer{
	status:      http.StatusNotFound,
	contentType: "text/html; charset=utf-8",
	body:        []byte("<!DOCTYPE html><html><head><title>404: This page could not be found.</title></head><body><h1>404</h1><h2>This page could not be found.</h2></body></html>"),
	header:      http.Header{"Cache-Control": {"private, no-cache, no-store, max-age=0, must-revalidate"}},
}

// corsHeader is constant, whatever the origin of the request. WIRE.md
// section 1.
func (a *API) corsHeader(preflight bool) http.Header {
	h := http.Header{
		"Access-Control-Allow-Credentials": {"true"},
		"Access-Control-Allow-Headers":     {"X-CSRF-Token, X-Requested-With, Accept, Accept-Version, Content-Length, Content-MD5, Content-Type, Date, X-Api-Version, X-API-Key, Authorization"},
		"Access-Control-Allow-Methods":     {"GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"},
		"Access-Control-Allow-Origin":      {a.origin()},
		"Access-Control-Expose-Headers":    {"Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id, X-Run-Id"},
		"Vary":                             {"Origin"},
	}
	if preflight {
		h["Access-Control-Max-Age"] = []string{"86400"}
	}
	return h
}

func (a *API) origin() string { return a.AppURL.Scheme + "://" + a.AppURL.Host }
