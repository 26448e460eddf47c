// Package faultproxy makes a server fail the way networks and gateways do, so
// that tests can show what survives it: refused and cut connections, delays,
// lost responses, truncated and garbled bodies, error statuses, redirects.
//
// Faults are drawn by a seed and by what the request is (its method, path and
// body, and how often it was seen), not by the order of arrival: the same seed
// gives the same requests the same faults, however they interleave. Only tests
// import it.
package faultproxy

import (
	"bytes"
	"context"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Kind is one way to fail.
type Kind string

// The kinds of faults. "Done" says whether the server does the request.
const (
	Refuse   Kind = "refuse"   // not done; the connection is reset at once
	Delay    Kind = "delay"    // done, with a late response
	CutFirst Kind = "cut"      // not done; the connection ends without a response
	CutAfter Kind = "cut-done" // done; the connection ends without a response
	Late     Kind = "late"     // the connection ends, and the request is done after that
	Truncate Kind = "truncate" // done; half of the response arrives
	Status   Kind = "status"   // not done; 500, 502, 503 or 504
	Lost     Kind = "lost"     // done, but with a response of 500, 502, 503 or 504
	Limit    Kind = "limit"    // not done; 429
	Garbage  Kind = "garbage"  // done, but with a response of 200 and broken JSON or HTML
	Redirect Kind = "redirect" // not done; 302 to elsewhere
)

// Kinds returns all kinds but Redirect, which no client gets over: it is a
// configuration mistake, not a passing fault.
func Kinds() []Kind {
	return []Kind{Refuse, Delay, CutFirst, CutAfter, Late, Truncate, Status, Lost, Limit, Garbage}
}

// Options say how often and how a Proxy fails.
type Options struct {
	Seed uint64
	// Rate is the share of requests with a fault, 0 to 1.
	Rate float64
	// Kinds are drawn from with equal chance; nil means Kinds().
	Kinds []Kind
	// Delay is the longest time by which Delay and Late come later; 0 means
	// 20 ms.
	Delay time.Duration
}

// Proxy is an http.Handler that fails by its Options, or passes on.
type Proxy struct {
	next    http.Handler
	options Options

	mu       sync.Mutex
	quiet    bool
	requests int
	faults   map[Kind]int
	seen     map[uint64]uint64
	late     int // requests that are still to be done, after their response
	idle     *sync.Cond
}

// New returns a Proxy in front of the server at target.
func New(target *url.URL, options Options) *Proxy {
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return Wrap(proxy, options)
}

// Wrap returns a Proxy in front of a handler.
func Wrap(next http.Handler, options Options) *Proxy {
	if options.Kinds == nil {
		options.Kinds = Kinds()
	}
	if options.Delay == 0 {
		options.Delay = 20 * time.Millisecond
	}
	p := &Proxy{next: next, options: options, faults: map[Kind]int{}, seen: map[uint64]uint64{}}
	p.idle = sync.NewCond(&p.mu)
	return p
}

// SetQuiet switches faults off or on again.
func (p *Proxy) SetQuiet(quiet bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = quiet
}

// Counts returns the number of requests and of the faults of each kind.
func (p *Proxy) Counts() (requests int, faults map[Kind]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests, maps.Clone(p.faults)
}

// Wait returns when all late requests have been done.
func (p *Proxy) Wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.late > 0 {
		p.idle.Wait()
	}
}

// addLate counts the requests that are still to be done.
func (p *Proxy) addLate(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late += n
	p.idle.Broadcast()
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	kind, random := p.draw(r, body)
	pause := time.Duration(random.Float64() * float64(p.options.Delay))
	// Once it is let through, a request is done to its end, even if the
	// client does not wait for it.
	forward := func() *httptest.ResponseRecorder {
		done := httptest.NewRecorder()
		request := r.Clone(context.WithoutCancel(r.Context()))
		request.Body = io.NopCloser(bytes.NewReader(body))
		p.next.ServeHTTP(done, request)
		return done
	}
	switch kind {
	case Refuse:
		reset(w)
	case CutFirst:
		panic(http.ErrAbortHandler)
	case Delay:
		time.Sleep(pause)
		pass(w, forward())
	case CutAfter:
		forward()
		panic(http.ErrAbortHandler)
	case Late:
		p.addLate(1)
		go func() {
			defer p.addLate(-1)
			time.Sleep(pause)
			forward()
		}()
		panic(http.ErrAbortHandler)
	case Truncate:
		response := forward()
		text := response.Body.Bytes()
		maps.Copy(w.Header(), response.Header())
		w.Header().Del("Content-Encoding")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
		w.WriteHeader(response.Code)
		_, _ = w.Write(text[:len(text)/2])
		panic(http.ErrAbortHandler)
	case Status, Lost:
		if kind == Lost {
			forward()
		}
		if random.IntN(2) == 0 {
			w.Header().Set("Retry-After", "0")
		}
		w.WriteHeader([]int{500, 502, 503, 504}[random.IntN(4)])
		_, _ = w.Write(body) // servers do repeat requests in such responses
	case Limit:
		if random.IntN(2) == 0 {
			w.Header().Set([]string{"Retry-After", "X-Retry-After"}[random.IntN(2)], "0")
		}
		w.WriteHeader(http.StatusTooManyRequests)
	case Garbage:
		forward()
		if random.IntN(2) == 0 {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<!doctype html><title>Welcome</title>")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"success":true,"keys":[{"id":`)
	case Redirect:
		http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
	default:
		p.next.ServeHTTP(w, r)
	}
}

// draw decides over one request and returns the randomness that goes with it.
func (p *Proxy) draw(r *http.Request, body []byte) (Kind, *rand.Rand) {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, r.Method+" "+r.URL.Path+"\n")
	_, _ = hash.Write(body)
	what := hash.Sum64()

	p.mu.Lock()
	defer p.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.requests++
	p.seen[what]++
	random := rand.New(rand.NewPCG(p.options.Seed, what+p.seen[what]*0x9e3779b97f4a7c15)) //nolint:gosec // Reproducible is what it has to be.
	// Drawn first even when it is quiet, so that the draws stay the same.
	hit := random.Float64() < p.options.Rate
	kind := p.options.Kinds[random.IntN(len(p.options.Kinds))]
	if !hit || p.quiet {
		return "", random
	}
	p.faults[kind]++
	return kind, random
}

func pass(w http.ResponseWriter, response *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), response.Header())
	w.WriteHeader(response.Code)
	_, _ = w.Write(response.Body.Bytes())
}

// reset breaks the connection with RST rather than FIN.
func reset(w http.ResponseWriter) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// Listener returns a listener that closes a share of connections as soon as
// they are accepted, before anything is read from them.
func (p *Proxy) Listener(l net.Listener, rate float64) net.Listener {
	return &listener{Listener: l, proxy: p, rate: rate, random: rand.New(rand.NewPCG(p.options.Seed, 1))} //nolint:gosec // Reproducible is what it has to be.
}

type listener struct {
	net.Listener
	proxy  *Proxy
	rate   float64
	random *rand.Rand
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.proxy.mu.Lock()
		refuse := l.random.Float64() < l.rate && !l.proxy.quiet
		if refuse {
			l.proxy.faults[Refuse]++
		}
		l.proxy.mu.Unlock()
		if !refuse {
			return conn, nil
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}
