package api

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// exchange is one request on its way to its answer.
type exchange struct {
	*API
	Request *http.Request
	started time.Time
	// isHidden reports a path that is not served where the request came in.
	isHidden func(path string) bool

	// id is the x-request-id, empty before a route is found.
	id     string
	pathID string
	cors   bool
	// actor is who acts, once authenticated.
	actor      access.User
	setCookies []string
	// refusal is why the request is refused, where the answer does not say so;
	// refusedUser is whose sign-in it was.
	refusal, refusedUser string
	// failed is an error that the answer does not tell.
	failed error
}

func (x *exchange) ctx() context.Context { return x.Request.Context() }

// writeCtx outlives a client that hangs up, as a write of the real server
// does: what was begun is stored and stands in the audit log. The store bounds
// how long it takes.
func (x *exchange) writeCtx() context.Context { return context.WithoutCancel(x.ctx()) }

// finish adds what every answer of /api carries.
func (x *exchange) finish(a answer) answer {
	if x.cors {
		header := x.corsHeader(false)
		maps.Copy(header, a.header)
		a.header = header
	}
	return a
}

// fail answers with an error; one that the API has no words for is logged.
func (x *exchange) fail(err error, scope keystore.Scope) answer {
	f := toFailure(err, scope)
	if f.status >= http.StatusInternalServerError {
		x.failed = errors.Join(x.failed, err)
	}
	return f.answer("")
}

// failWithID is fail on the routes whose error bodies name the request.
func (x *exchange) failWithID(err error, scope keystore.Scope) answer {
	f := toFailure(err, scope)
	if f.status >= http.StatusInternalServerError {
		x.failed = errors.Join(x.failed, err)
	}
	return f.answer(x.id)
}

// body reads and parses the request body. One that is declared too large is
// refused unread; one that comes in chunks is cut at the limit without a word,
// as the real server's proxy does. WIRE.md section 5.
func (x *exchange) body() (value, error) {
	if x.Request.ContentLength > maxBody {
		return value{}, errTooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(x.Request.Body, maxBody))
	if err != nil {
		return value{}, errInvalidJSON
	}
	v, ok := parseJSON(raw)
	if !ok {
		return value{}, errInvalidJSON
	}
	return v, nil
}

// log writes the request's line, never a header or a body.
func (x *exchange) log(status int) {
	level := slog.LevelInfo
	if x.isScrape() {
		level = slog.LevelDebug
	}
	attrs := make([]slog.Attr, 0, 7)
	attrs = append(attrs,
		slog.String("method", x.Request.Method), slog.String("path", x.Request.URL.Path), slog.Int("status", status),
		slog.Duration("took", time.Since(x.started)))
	if x.id != "" {
		attrs = append(attrs, slog.String("request_id", x.id))
	}
	if x.actor.ID != "" {
		attrs = append(attrs, slog.String("actor", x.actor.ID))
	}
	if x.failed != nil && !errors.Is(x.failed, context.Canceled) {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", x.failed.Error()))
	}
	x.Logger.LogAttrs(x.ctx(), level, "request", attrs...)
}

// isScrape reports a request of a monitoring system, which comes every few
// seconds.
func (x *exchange) isScrape() bool {
	return x.Request.URL.Path == ReferencePrefix+"health" || x.Request.URL.Path == ReferencePrefix+"metrics"
}

func newRequestID(random io.Reader) string {
	var b [4]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "00000000"
	}
	return hex.EncodeToString(b[:])
}

func itoa(n int) string { return strconv.Itoa(n) }
