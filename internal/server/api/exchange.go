package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/access"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
)

// exchange is one request on its way to its response.
type exchange struct {
	*API
	Request *http.Request
	started time.Time
	// base is the request's context, with what the request is going to read.
	base context.Context //nolint:containedctx // an exchange is of one request
	// isHidden reports a path that is not served where the request came in.
	isHidden func(path string) bool
	// withoutCache looks the session up even where a session_data cookie has it.
	withoutCache bool

	// id is the x-request-id, empty before a route is found.
	id     string
	pathID string
	cors   bool
	// actor is who acts, once authenticated.
	actor      access.User
	setCookies []string
	// deadline is when the database has had requestTime for this request; zero
	// before the first question to it.
	deadline time.Time
	// cancels end the contexts of ctx and writeCtx.
	cancels []context.CancelFunc
	// drained tells that the whole body has been read.
	drained bool
	// large tells that the request holds one of API.large.
	large bool
	// refusal is why the request is refused, where the response does not say so;
	// refusedUser is whose sign-in it was.
	refusal, refusedUser string
	// failed is an error that the response does not tell.
	failed error
}

// requestTime is how long the database may take for one request, whatever number
// of statements that takes.
const requestTime = database.Deadline

// ctx is the context of a question to the database.
func (x *exchange) ctx() context.Context { return x.bounded(x.base) }

// writeCtx outlives a client that hangs up, as a write of the real server
// does: what was begun is stored and stands in the audit log. The end of the
// server's shutdown ends it.
func (x *exchange) writeCtx() context.Context { return x.bounded(x.Lifetime) }

func (x *exchange) bounded(ctx context.Context) context.Context {
	if x.deadline.IsZero() {
		x.deadline = time.Now().Add(requestTime)
	}
	ctx, cancel := context.WithDeadline(ctx, x.deadline)
	x.cancels = append(x.cancels, cancel)
	return ctx
}

// pauseDeadline leaves out of requestTime what passes until the function that it
// returns is called: a wait for something else than the database.
func (x *exchange) pauseDeadline() (resume func()) {
	began := time.Now()
	return func() {
		if !x.deadline.IsZero() {
			x.deadline = x.deadline.Add(time.Since(began))
		}
	}
}

// fail responds with an error; one that the API has no words for is logged.
func (x *exchange) fail(err error, scope keystore.Scope) response {
	f := toFailure(err, scope)
	if f.status >= http.StatusInternalServerError {
		x.failed = errors.Join(x.failed, err)
	}
	return f.response("")
}

// failWithID is fail on the routes whose error bodies name the request.
func (x *exchange) failWithID(err error, scope keystore.Scope) response {
	f := toFailure(err, scope)
	if f.status >= http.StatusInternalServerError {
		x.failed = errors.Join(x.failed, err)
	}
	return f.response(x.id)
}

// body reads and parses the request body, and keeps the wanted fields. A body
// that is declared too large is refused unread; one that comes in chunks is cut
// at the limit without a word, as the real server's proxy does. WIRE.md
// section 5.
func (x *exchange) body(wanted ...string) (value, error) {
	raw, err := x.read(maxBody)
	switch {
	case errors.Is(err, errOverLimit) && x.Request.ContentLength > maxBody:
		return value{}, errTooLarge
	case err != nil && !errors.Is(err, errOverLimit):
		return value{}, errInvalidJSON
	}
	if len(raw) > largeBody {
		if err := x.takeLarge(); err != nil {
			return value{}, err
		}
	}
	v, ok := parseJSON(raw, wanted...)
	if !ok {
		return value{}, errInvalidJSON
	}
	return v, nil
}

// errOverLimit reports a body of more bytes than the limit.
var errOverLimit = errors.New("the body is too large")

// read reads the request body up to a limit; of a larger one it returns
// errOverLimit with as much. One that is declared larger is not read at all.
func (x *exchange) read(limit int64) (string, error) {
	defer x.pauseDeadline()()
	declared := x.Request.ContentLength
	if declared > limit {
		return "", errOverLimit
	}
	if declared >= 0 && declared <= largeBody {
		small := make([]byte, declared)
		_, err := io.ReadFull(x.Request.Body, small)
		x.drained = err == nil
		return string(small), err
	}
	var b strings.Builder
	b.Grow(int(max(0, declared)))
	n, err := io.Copy(&b, io.LimitReader(x.Request.Body, limit))
	if err == nil && n == limit && declared < 0 {
		var more [1]byte
		if n, _ := x.Request.Body.Read(more[:]); n > 0 {
			return b.String(), errOverLimit
		}
	}
	x.drained = err == nil
	return b.String(), err
}

// A request with a body or a response of more than largeBody, or with a key that
// is too long for a list, takes several times that in memory. One at a time goes
// on.
const (
	largeBody      = 1 << 20
	largeWaitLimit = 30 * time.Second
)

// takeLarge waits for the right to hold something large until the request
// ends.
func (x *exchange) takeLarge() error {
	if x.large {
		return nil
	}
	defer x.pauseDeadline()()
	ctx, cancel := context.WithTimeout(x.Request.Context(), largeWaitLimit)
	defer cancel()
	select {
	case x.API.large <- struct{}{}:
		x.large = true
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for other requests with large keys: %w", ctx.Err())
	}
}

// end gives back what the request held.
func (x *exchange) end() {
	for _, cancel := range x.cancels {
		cancel()
	}
	x.giveLarge()
}

func (x *exchange) giveLarge() {
	if x.large {
		<-x.API.large
		x.large = false
	}
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
	x.Logger.LogAttrs(x.Request.Context(), level, "request", attrs...)
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
