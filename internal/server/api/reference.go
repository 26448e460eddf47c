package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// referenceMethods are the paths that the real server does not have.
var referenceMethods = map[string]methods{
	"health":  {http.MethodGet: health},
	"metrics": {http.MethodGet: showMetrics},
	"resolve": {http.MethodPost: resolve},
}

// referenceRoute finds one of them.
func referenceRoute(name string) (route, bool) {
	found, exists := referenceMethods[name]
	return route{ReferencePrefix + name, found, ""}, exists
}

// healthTimeout is how long the database has to respond.
const healthTimeout = 2 * time.Second

// ErrEncryptionKey reports a store that responds, but is not encrypted with this
// server's key.
var ErrEncryptionKey = errors.New("ENCRYPTION_KEY does not fit the store")

// health is GET /reference/health: 200 while the store responds and the server's
// key fits it, else 503.
func health(x *exchange) response {
	ctx, cancel := context.WithTimeout(x.ctx(), healthTimeout)
	defer cancel()
	if err := x.Ping(ctx); err != nil {
		x.failed = err
		if errors.Is(err, ErrEncryptionKey) {
			return response{status: http.StatusServiceUnavailable, body: []byte(`{"status":"unavailable","store":"reachable","encryptionKey":"wrong"}`)}
		}
		return response{status: http.StatusServiceUnavailable, body: []byte(`{"status":"unavailable","store":"unreachable"}`)}
	}
	return ok([]byte(`{"status":"ok","store":"reachable"}`))
}

// showMetrics is GET /reference/metrics in Prometheus' text format.
func showMetrics(x *exchange) response {
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	request := x.Request.Clone(x.ctx())
	request.Header.Del("Accept-Encoding")
	x.metrics.handler().ServeHTTP(w, request)
	return response{status: w.status, body: w.body.Bytes(), contentType: w.header.Get("Content-Type")}
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

// resolve is POST /reference/resolve: the key that serves a run, or null.
func resolve(x *exchange) response {
	given, isBearer := strings.CutPrefix(x.Request.Header.Get("Authorization"), "Bearer ")
	// Hashes compare in the same time whatever the length.
	want, got := sha256.Sum256([]byte(x.InternalSecret)), sha256.Sum256([]byte(given))
	if !isBearer || x.InternalSecret == "" || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return errUnauthorized.response("")
	}
	body, err := x.body("workspaceId", "providerId")
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	v := validation{body: body}
	if !v.isObject() {
		return v.failure().response("")
	}
	workspaceID, providerID := v.text("workspaceId"), v.text("providerId")
	if f := v.failure(); f != nil {
		return f.response("")
	}
	key, err := x.resolve(workspaceID, providerID)
	if err != nil {
		return x.fail(err, keystore.Workspace)
	}
	if key == nil {
		return ok([]byte("null"))
	}
	x.auditServed(workspaceID, key)
	return ok(new(object).string("apiKey", key.apiKey).raw("isBYOK", "true").string("scope", string(key.pool.Scope)).string("keyId", key.keyID).end())
}

// text reads a string; absent and null are "". One with a NUL names nothing.
func (v *validation) text(name string) string {
	f := v.body.field(name)
	switch f.kind {
	case stringKind:
		if text := f.string(); !strings.ContainsRune(text, 0) {
			return text
		}
	case undefinedKind, nullKind:
	default:
		v.wrongType("string", `["`+name+`"]`, f.kind)
	}
	return ""
}
