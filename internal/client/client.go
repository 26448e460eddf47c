package client

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Client calls the API of one Sim as one user. It is made for one Terraform
// operation: it keeps its snapshots until the end. Safe for concurrent use.
type Client struct {
	cfg     Config
	base    string
	headers map[string]string
	http    *http.Client
	session *session
	calls   *calls
	jitter  func() float64 // 0 up to 1

	// unreachable: no attempt of an earlier request got a response, and none
	// of a later one has.
	unreachable atomic.Bool

	mu     sync.Mutex
	scopes map[byok.Scope]*scope
	// See discovery.go.
	workspaces *cached[[]byok.ListedWorkspace]
	inherited  map[byok.Scope]*cached[[]string]
}

// grace is how long a write that is being sent may outlive its context.
const grace = 5 * time.Second

// AddInput is a new key.
type AddInput struct {
	APIKey string
	// Name is the label; nil or blank for none.
	Name *string
	// WaitForCapacity makes an add that finds its pool full wait for keys of
	// the pool to be deleted: until shortly before ctx ends, or until adds
	// that wait are all that this Client does. See capacity.go.
	WaitForCapacity bool
	// SkipRecord returns the key as the response shows it, without UpdatedAt
	// and CreatedBy: the caller adds several keys and lists once afterwards.
	SkipRecord bool
}

// ReplaceInput is what a stored key becomes.
type ReplaceInput struct {
	KeyID string
	// APIKey is needed even for a rename. WIRE.md section 5.
	APIKey string
	// Name nil leaves the stored name alone, blank clears it.
	Name *string
	// Prior is the key's record of earlier, if the caller has one. Its
	// CreatedAt and CreatedBy never change, so they need not be read again.
	Prior *byok.Key
}

// New returns a Client, or a *ConfigError. It does no I/O.
func New(cfg Config) (*Client, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return newClient(cfg, dialer.DialContext, randomJitter)
}

// dial opens a connection, as net.Dialer does.
type dial func(ctx context.Context, network, address string) (net.Conn, error)

func newClient(cfg Config, dial dial, jitter func() float64) (*Client, error) {
	if problems, _ := cfg.Check(); len(problems) > 0 {
		return nil, &ConfigError{Problems: problems}
	}
	cfg = cfg.withDefaults()
	endpoint, _ := parseEndpoint(cfg.Endpoint)
	certs, _ := parseCACerts(cfg.CACertPEM)
	var roots *x509.CertPool // nil means those of the system
	if len(certs) > 0 {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		for _, cert := range certs {
			roots.AddCert(cert)
		}
	}
	c := &Client{
		cfg: cfg, base: strings.TrimSuffix(endpoint.String(), "/"), headers: cfg.Headers,
		http: newHTTPClient(cfg, roots, dial), jitter: jitter, calls: newCalls(), scopes: map[byok.Scope]*scope{},
	}
	c.Forget() // which is what a new Client knows

	c.session = newSession(c, cfg)
	return c, nil
}

// List returns every key of the scope by provider ID, then in rotation
// order, from the snapshot that all reads of this Client share: one request
// per scope, and another one after the Client's own writes. What the
// pointers in the keys point to is shared and must not be changed.
func (c *Client) List(ctx context.Context, in byok.Scope) ([]byok.Key, error) {
	s, err := c.snapshot(ctx, in)
	if err != nil {
		return nil, err
	}
	return slices.Clone(s.keys), nil
}

// Entitled reports whether keys can be added to a scope, from the snapshot: an
// organization needs an active plan for that. WIRE.md section 7.
func (c *Client) Entitled(ctx context.Context, in byok.Scope) (bool, error) {
	s, err := c.snapshot(ctx, in)
	if err != nil {
		return false, err
	}
	return s.entitled, nil
}

// ListedNotEntitled is the reverse of Entitled without any I/O: false where the
// snapshot is not there yet.
func (c *Client) ListedNotEntitled(in byok.Scope) bool {
	s := c.listed(in)
	return s != nil && !s.entitled
}

// ListedKeys is List without any I/O: ok is false where the snapshot is not
// there yet. The keys are shared and must not be changed.
func (c *Client) ListedKeys(in byok.Scope) (keys []byok.Key, ok bool) {
	if s := c.listed(in); s != nil {
		return s.keys, true
	}
	return nil, false
}

// listed is the newest snapshot of a scope that there is, or nil.
func (c *Client) listed(in byok.Scope) *snapshot {
	c.mu.Lock()
	sc := c.scopes[in]
	c.mu.Unlock()
	if sc == nil {
		return nil
	}
	return sc.current()
}

// Key returns one key from the snapshot, or KindKeyNotFound.
func (c *Client) Key(ctx context.Context, in byok.Scope, keyID string) (byok.Key, error) {
	s, err := c.snapshot(ctx, in)
	if err != nil {
		return byok.Key{}, err
	}
	key, ok := s.key(keyID)
	if !ok {
		return byok.Key{}, c.fail(OpList, byok.Pool{Scope: in}, keyID, &failure{kind: KindKeyNotFound})
	}
	return key, nil
}

// Replace gives a stored key another secret, and another name unless
// in.Name is nil, and returns its full record. It is repeated where a response
// is lost: the outcome is the same.
//
// A key that comes with an error has been replaced; only the record could not
// be completed.
func (c *Client) Replace(ctx context.Context, pool byok.Pool, in ReplaceInput) (byok.Key, error) {
	if f := checkIDs(pool, &in.KeyID); f != nil {
		return byok.Key{}, c.fail(OpReplace, pool, in.KeyID, f)
	}
	defer c.calls.begin()()
	sc := c.scope(pool.Scope)
	write := newWriteContext(ctx, grace)
	defer write.close()

	sc.change(func() { sc.replacing++ })
	key, f := c.replace(write, sc, OpReplace, pool.ProviderID, in, c.cfg.MaxRetries)
	var covers uint64
	sc.change(func() { sc.replacing--; sc.writes++; covers = sc.writes })
	if f != nil {
		return byok.Key{}, c.fail(OpReplace, pool, in.KeyID, f)
	}

	prior, known := byok.Key{}, false
	if in.Prior != nil && in.Prior.ID == in.KeyID && in.Prior.CreatedAt != "" {
		prior, known = *in.Prior, true
	} else if s := sc.current(); s != nil {
		prior, known = s.key(in.KeyID)
	}
	if !known {
		s, f := sc.readBack(ctx, covers)
		if f == nil {
			if prior, known = s.key(in.KeyID); !known {
				f = &failure{kind: KindKeyNotFound, detail: "it was replaced, but then removed by another user"}
			}
		}
		if f != nil {
			err := c.fail(OpReplace, pool, in.KeyID, f)
			err.Unconfirmed = true // it is stored, but how is not known
			return key, err
		}
	}
	key.CreatedAt, key.CreatedBy = prior.CreatedAt, prior.CreatedBy
	return key, nil
}

// Delete removes one key. A key that is gone already is KindKeyNotFound,
// unless an earlier attempt of this very call may have removed it.
func (c *Client) Delete(ctx context.Context, pool byok.Pool, keyID string) error {
	if f := checkIDs(pool, &keyID); f != nil {
		return c.fail(OpDelete, pool, keyID, f)
	}
	defer c.calls.begin()()
	sc := c.scope(pool.Scope)
	write := newWriteContext(ctx, grace)
	defer write.close()
	if f := c.remove(write, sc, OpDelete, pool.ProviderID, keyID, c.cfg.MaxRetries); f != nil {
		return c.fail(OpDelete, pool, keyID, f)
	}
	return nil
}

// replace sends a replace; the record it returns lacks CreatedAt and
// CreatedBy.
func (c *Client) replace(ctx context.Context, sc *scope, op Op, providerID string, in ReplaceInput, retries int) (byok.Key, *failure) {
	body, err := json.Marshal(byok.SaveRequest{ProviderID: providerID, APIKey: in.APIKey, KeyID: in.KeyID, Name: in.Name})
	if err != nil {
		return byok.Key{}, &failure{kind: KindInvalid, refused: true}
	}
	var key byok.Key
	var mayBeStored bool // an earlier attempt may have been stored
	f := c.send(ctx, &request{
		op: op, scope: sc.id.Kind, method: http.MethodPost, path: sc.path, body: body, limit: maxResponseBytes,
		retries: retries, persistent: retries > c.cfg.MaxRetries, until: deadline(ctx),
		again: func(f *failure) bool { mayBeStored = mayBeStored || !f.refused; return true },
		decode: func(body []byte, header http.Header) (err error) {
			key, err = decodeReplaced(body, header.Get("Content-Type"), providerID, in.KeyID)
			return err
		},
	})
	if f != nil {
		// A failed sign-in says nothing of the attempts before.
		f.unconfirmed = mayBeStored || f.op == "" && !f.refused
	}
	return key, f
}

// remove sends a delete, always with the key's ID: without one it would remove
// the whole pool. WIRE.md section 6.
func (c *Client) remove(ctx context.Context, sc *scope, op Op, providerID, keyID string, retries int) *failure {
	body, err := json.Marshal(byok.DeleteRequest{ProviderID: providerID, KeyID: keyID})
	if err != nil || keyID == "" {
		return &failure{kind: KindInvalid, refused: true}
	}
	var mayBeGone bool // an earlier attempt may have removed the key
	f := c.send(ctx, &request{
		op: op, scope: sc.id.Kind, method: http.MethodDelete, path: sc.path, body: body, limit: maxResponseBytes,
		retries: retries, persistent: retries > c.cfg.MaxRetries, until: deadline(ctx),
		again:  func(f *failure) bool { mayBeGone = mayBeGone || !f.refused; return true },
		decode: func(body []byte, header http.Header) error { return decodeDeleted(body, header.Get("Content-Type")) },
	})
	sc.change(func() {
		sc.writes++
		if f == nil || f.kind == KindKeyNotFound {
			p := sc.pool(providerID)
			p.freed++
			p.full = nil
		}
	})
	if f.is(KindKeyNotFound) && mayBeGone {
		return nil
	}
	return f
}

func (c *Client) scope(id byok.Scope) *scope {
	c.mu.Lock()
	defer c.mu.Unlock()
	sc := c.scopes[id]
	if sc == nil {
		sc = newScope(c, id)
		c.scopes[id] = sc
	}
	return sc
}

func (c *Client) snapshot(ctx context.Context, in byok.Scope) (*snapshot, error) {
	if f := checkIDs(byok.Pool{Scope: in, ProviderID: "any"}, nil); f != nil {
		return nil, c.fail(OpList, byok.Pool{Scope: in}, "", f)
	}
	s, f := c.scope(in).read(ctx, c.cfg.MaxRetries)
	if f != nil {
		return nil, c.fail(OpList, byok.Pool{Scope: in}, "", f)
	}
	return s, nil
}

// checkIDs refuses what could turn a request into another one: a scope ID
// that leaves its place in the path, a key ID that names no key.
func checkIDs(pool byok.Pool, keyID *string) *failure {
	var detail string
	id, kind, providerID := pool.Scope.ID, pool.Scope.Kind.String(), pool.ProviderID
	switch {
	case id == "":
		detail = "the " + kind + " ID is empty"
	case id == "." || id == ".." || len(id) > 2*maxIDLength ||
		strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }):
		detail = "the " + kind + " ID is not valid"
	case providerID == "":
		detail = "the provider ID is empty"
	case !isID(providerID):
		detail = "the provider ID is not valid"
	case keyID != nil && *keyID == "":
		detail = "the key ID is empty"
	case keyID != nil && !isID(*keyID):
		detail = "the key ID is not valid"
	default:
		return nil
	}
	return &failure{kind: KindInvalid, refused: true, detail: detail}
}

// fail turns a failure into what callers see.
func (c *Client) fail(op Op, pool byok.Pool, keyID string, f *failure) *Error {
	return &Error{
		Op: cmp.Or(f.op, op), Kind: f.kind, Status: f.status, RequestID: f.requestID, URL: f.url,
		Pool: pool, KeyID: keyID, Listed: c.listed(pool.Scope) != nil,
		Cap: f.cap, Waiting: f.waiting, Unconfirmed: f.unconfirmed, Candidates: f.candidates, Fields: f.fields, Detail: f.detail, Attempts: f.attempts, err: f.err,
	}
}
