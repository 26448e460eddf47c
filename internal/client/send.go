package client

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// request is one request of the API and how it may be repeated.
type request struct {
	op     Op
	scope  byok.ScopeKind // whose routes they are
	method string
	// path is escaped and starts with a slash; the endpoint goes before it.
	path  string
	query url.Values
	body  []byte
	// limit is the largest response in bytes.
	limit int64
	// retries is how often it may be repeated.
	retries int
	// until is how long a refused connection is tried again, however often:
	// nothing has been sent, and a server that restarts comes back. Zero: no
	// longer than the retries last.
	until time.Time
	// again says which transient failures are worth another attempt; nil
	// means all of them.
	again func(*failure) bool
	// persistent requests are repeated even after others could not connect.
	persistent bool
	// decode looks at a 200 response; an error makes it a protocol failure.
	decode func(body []byte, header http.Header) error
}

// maxRefusedWait is the longest pause after a refused connection: a server
// that has come back is noticed soon.
const maxRefusedWait = 10 * time.Second

func (r *request) mayRepeat(f *failure) bool {
	return f.transient && (r.again == nil || r.again(f))
}

// newHTTPClient makes the one connection pool of a Client.
func newHTTPClient(cfg Config, roots *x509.CertPool, dial dial) *http.Client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSClientConfig:       &tls.Config{RootCAs: roots, InsecureSkipVerify: cfg.Insecure, MinVersion: tls.VersionTLS12}, //nolint:gosec // The user asks for it by name.
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxConnsPerHost:       16,
		MaxIdleConnsPerHost:   16,
		ExpectContinueTimeout: time.Second,
		// Node closes a connection that has been idle for 5 s; to send an add
		// into one that is just being closed would leave its outcome open.
		IdleConnTimeout:        4 * time.Second,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
	return &http.Client{
		// The wrapper hides CloseIdleConnections, which retryablehttp calls
		// whenever one request has failed.
		Transport: struct{ http.RoundTripper }{transport},
		Timeout:   cfg.RequestTimeout,
		// Nothing is followed: neither the session nor a key goes elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send sends r with the session and repeats it by its policy. A session that
// the server refuses is renewed once. When ctx is a writeContext, the request
// holds it from the moment it is being sent.
func (c *Client) send(ctx context.Context, r *request) *failure {
	attempts := 0
	for {
		cookie, f := c.session.cookie(ctx)
		if f == nil {
			var n int
			n, f = c.repeat(ctx, r, cookie)
			attempts += n
		}
		switch {
		case f == nil:
			return nil
		case f.kind == KindUnauthorized && f.op == "" && c.session.renew(cookie):
			continue
		}
		failed := *f // a failure of the session is shared
		if noPermission := rules[r.scope].noPermission; noPermission != "" && f.kind == KindUnauthorized && f.op == "" && r.op == OpList {
			// Only the session tells which of its two causes the 401 has.
			switch said, unknown := c.askSession(ctx); {
			case unknown != nil:
			case said == signedOut:
				failed.op, failed.refused = OpSession, true
			case strings.HasPrefix(said, "{"):
				failed.kind = noPermission
			}
		}
		failed.attempts = attempts
		return &failed
	}
}

// repeat runs the loop of retryablehttp and returns how many requests were
// sent and why the last one failed, if it did.
func (c *Client) repeat(ctx context.Context, r *request, cookie string) (int, *failure) {
	write, _ := ctx.(*writeContext)
	outer := ctx
	if write != nil {
		outer = write.parent
	}

	var (
		sent atomic.Bool
		last *failure
		wait time.Duration
		n    int // requests sent
		// refusals are attempts whose connection was refused; until bounds
		// them, not the number of retries.
		refusals int
	)
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// Once there is a connection, the request is as good as sent: to end
		// it after that leaves its outcome open.
		GotConn: func(httptrace.GotConnInfo) {
			if write != nil {
				write.hold()
			}
		},
		WroteHeaders: func() { sent.Store(true) },
	})
	req, err := c.newRequest(traced, r, cookie)
	if err != nil {
		return 0, &failure{kind: KindInvalid, refused: true, detail: "the request could not be built"}
	}
	started := time.Now()
	req.SetResponseHandler(func(resp *http.Response) error {
		f := receive(resp, r)
		logResponse(ctx, resp, r, time.Since(started))
		c.unreachable.Store(false)
		if f == nil {
			n, last = n+1, nil
			return nil
		}
		return f
	})

	retries, until := r.retries, r.until
	if retries == 0 {
		until = time.Time{} // the user wants no retries
	}
	if c.unreachable.Load() && !r.persistent {
		// No attempt of an earlier request could connect; do not make every
		// key of a large plan wait for the same discovery. What changes a key
		// still waits for a server that restarts: the list that an apply begins
		// with may have failed first.
		retries = 0
	}
	loop := retryablehttp.Client{
		HTTPClient:   c.http,
		Logger:       logger{ctx},
		RetryMax:     math.MaxInt, // CheckRetry counts
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
		CheckRetry: func(_ context.Context, _ *http.Response, err error) (bool, error) {
			if err == nil {
				return false, nil // the response handler looks at it
			}
			last = toFailure(err)
			if last.status == 0 && !sent.Swap(false) {
				last.refused = true
			}
			n++
			started = time.Now()
			if write != nil && (r.op != OpAdd || last.refused) {
				write.release()
			}
			wait = c.backoff(n-1, last.wait)
			repeats := r.mayRepeat(last)
			if last.connRefused && !until.IsZero() {
				refusals++
				wait = min(wait, maxRefusedWait)
				repeats = repeats && time.Until(until) > wait
			} else {
				repeats = repeats && n-refusals <= retries
			}
			deadline, bounded := outer.Deadline()
			return repeats && outer.Err() == nil && !(bounded && time.Until(deadline) <= wait), last
		},
		Backoff: func(time.Duration, time.Duration, int, *http.Response) time.Duration { return wait },
	}
	resp, err := loop.Do(req)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err == nil && last == nil {
		return n, nil
	}
	if last == nil {
		last = toFailure(err)
	}
	if last.kind == KindNetwork && n > retries && retries > 0 {
		c.unreachable.Store(true)
	}
	last.url = c.base + r.path
	if outer.Err() != nil && (last.status == 0 || last.transient) {
		last.kind, last.err = KindCanceled, outer.Err()
	}
	return n, last
}

func (c *Client) newRequest(ctx context.Context, r *request, cookie string) (*retryablehttp.Request, error) {
	var body any
	if r.body != nil {
		body = r.body
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	for name, value := range c.headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if cookie != "" {
		// Each deployment accepts only one of the names and ignores the
		// other. WIRE.md section 2.
		req.Header.Set("Cookie", cookieName+"="+cookie+"; "+secureCookieName+"="+cookie)
	}
	return req, nil
}

// receive reads a response to its end, or to its limit.
func receive(resp *http.Response, r *request) *failure {
	defer func() {
		_ = resp.Body.Close()
		resp.Body = http.NoBody // retryablehttp drains it once more
	}()
	f := judge(resp, r)
	if f == nil {
		return nil
	}
	f.status, f.requestID = resp.StatusCode, cmp.Or(requestID(resp.Header), f.requestID)
	f.finished = f.requestID != ""
	f.wait, _ = retryAfter(resp.Header, time.Now())
	return f
}

func judge(resp *http.Response, r *request) *failure {
	contentType := resp.Header.Get("Content-Type")
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		body, f := readBody(resp, r.limit)
		if f != nil {
			return f
		}
		if err := r.decode(body, resp.Header); err != nil {
			return &failure{kind: KindProtocol, transient: true, detail: err.Error()}
		}
		return nil
	case status >= 300 && status < 400:
		detail, moved := redirectDetail(resp, r.path)
		return &failure{kind: KindRedirect, refused: true, detail: detail, moved: moved}
	case status == http.StatusTooManyRequests:
		return &failure{kind: KindRateLimited, transient: true, refused: true}
	case status == http.StatusRequestTimeout:
		return &failure{kind: KindNetwork, transient: true, detail: "a gateway timed out waiting for the request"}
	case status >= 400 && status < 500:
		body, f := readBody(resp, maxResponseBytes)
		if f != nil {
			body = nil
		}
		if r.op == OpSignIn {
			if status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
				return refusal(r, status, body)
			}
			return &failure{kind: KindSignIn, refused: true, detail: signInDetail(body)}
		}
		return refusal(r, status, body)
	case status >= 500:
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // the connection can be used again; the text cannot (WIRE.md section 12)
		return &failure{kind: KindServer, transient: status != http.StatusNotImplemented}
	}
	return &failure{kind: KindProtocol, detail: "its status is unexpected", transient: contentType == ""}
}

// backoff is the wait before attempt n+1 counted from 0: exponential with full
// jitter, and never shorter than what the server asked for, up to the limit.
func (c *Client) backoff(n int, asked time.Duration) time.Duration {
	longest := c.cfg.RetryWaitMax
	ceiling := longest
	if n < 20 {
		ceiling = min(longest, c.cfg.RetryWaitMin<<n)
	}
	wait := time.Duration(c.jitter() * float64(ceiling))
	if asked > 0 {
		wait = asked + time.Duration(c.jitter()*float64(c.cfg.RetryWaitMin))
	}
	return min(wait, longest)
}

func randomJitter() float64 { return rand.Float64() } //nolint:gosec // It spreads waits, nothing else.

func toFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return describeNetworkError(err)
}

// describeNetworkError puts an error of net/http into words of its own: the
// original can repeat what a server sent.
func describeNetworkError(err error) *failure {
	f := &failure{kind: KindNetwork, transient: true}
	var (
		dns         *net.DNSError
		op          *net.OpError
		netErr      net.Error
		notTLS      tls.RecordHeaderError
		untrusted   *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		hostname    x509.HostnameError
		corrupt     flate.CorruptInputError
		badProtocol textproto.ProtocolError
	)
	text := err.Error()
	switch {
	case errors.As(err, &authority):
		f.kind, f.detail, f.transient = KindCertificate, "the certificate is signed by an unknown authority", false
	case errors.As(err, &hostname):
		f.detail, f.transient = "the server's certificate is for another host name", false
	case errors.As(err, &untrusted):
		f.detail, f.transient = "the server's certificate cannot be verified; it may have expired", false
	case errors.As(err, &notTLS), strings.Contains(text, "HTTP response to HTTPS client"):
		f.detail, f.transient = "the server does not use TLS; the endpoint may have to begin with http://", false
	case errors.As(err, &op) && op.Op == "proxyconnect":
		f.detail = "the proxy from the environment cannot be reached"
		f.connRefused = errors.Is(err, syscall.ECONNREFUSED)
	case errors.As(err, &dns) && dns.IsNotFound:
		f.detail, f.transient = "unknown host name", false
	case errors.As(err, &dns):
		f.detail = "the host name could not be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.detail, f.connRefused = "connection refused", true
	case strings.Contains(text, "response headers exceeded"):
		f.kind, f.detail, f.transient = KindProtocol, "its headers are larger than 64 KiB", false
	case strings.Contains(text, "Location header"):
		f.kind, f.detail, f.transient, f.refused = KindRedirect, "to a location that cannot be an endpoint", false, true
	case errors.As(err, &corrupt), errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		f.kind, f.detail = KindProtocol, "its compression is broken"
	case errors.As(err, &badProtocol), strings.Contains(text, "malformed HTTP"), strings.Contains(text, "malformed MIME"):
		f.kind, f.detail = KindProtocol, "it is not HTTP"
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded):
		f.detail = "no complete response within the request timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		f.detail = "the connection was closed"
	default:
		f.detail = "the connection broke"
	}
	return f
}

func logResponse(ctx context.Context, resp *http.Response, r *request, took time.Duration) {
	tflog.Debug(ctx, "BYOK API: response", map[string]any{
		"method": r.method, "path": r.path, "status": resp.StatusCode, "request_id": requestID(resp.Header), "milliseconds": took.Milliseconds(),
	})
}
