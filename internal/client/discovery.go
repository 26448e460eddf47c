package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Workspaces returns the workspaces of the user that are not archived, newest
// first. All calls of a Client share one request.
func (c *Client) Workspaces(ctx context.Context) ([]byok.ListedWorkspace, error) {
	c.mu.Lock()
	all := c.workspaces
	c.mu.Unlock()
	workspaces, f := all.get(ctx, func(ctx context.Context) (workspaces []byok.ListedWorkspace, f *failure) {
		f = c.send(ctx, &request{
			op: OpWorkspaces, method: http.MethodGet, limit: maxListBytes, retries: c.cfg.MaxRetries,
			// Without a scope, and with active ones only, the server creates
			// a workspace for a user who has none. WIRE.md section 14.
			path: byok.WorkspacesPath, query: url.Values{"scope": {"all"}},
			decode: func(body []byte, header http.Header) (err error) {
				workspaces, err = decodeWorkspaces(body, header.Get("Content-Type"))
				return err
			},
		})
		return workspaces, f
	})
	if f != nil {
		return nil, c.fail(OpWorkspaces, byok.Pool{}, "", f)
	}
	return slices.Clone(workspaces), nil
}

// Inherited returns the provider IDs that a workspace takes from its
// organization, as they were before the Client's own writes: it is what a plan
// asks. All calls about a workspace share one request.
func (c *Client) Inherited(ctx context.Context, in byok.Scope) ([]string, error) {
	if f := checkIDs(byok.Pool{Scope: in, ProviderID: "any"}, nil); f != nil {
		return nil, c.fail(OpInherited, byok.Pool{Scope: in}, "", f)
	}
	c.mu.Lock()
	if c.inherited[in] == nil {
		c.inherited[in] = &cached[[]string]{}
	}
	its := c.inherited[in]
	c.mu.Unlock()
	inherited, f := its.get(ctx, func(ctx context.Context) (inherited []string, f *failure) {
		f = c.send(ctx, &request{
			op: OpInherited, scope: in.Kind, method: http.MethodGet, path: in.InheritedPath(), limit: maxResponseBytes, retries: c.cfg.MaxRetries,
			decode: func(body []byte, header http.Header) (err error) {
				inherited, err = decodeInherited(body, header.Get("Content-Type"))
				return err
			},
		})
		return inherited, f
	})
	if f != nil {
		return nil, c.fail(OpInherited, byok.Pool{Scope: in}, "", f)
	}
	return slices.Clone(inherited), nil
}

// cached is the outcome of one request that all callers share. A failure is
// shared by those who wait for it, and not kept.
type cached[T any] struct {
	mu      sync.Mutex
	known   bool
	value   T
	current *inFlight[T]
}

func (c *cached[T]) get(ctx context.Context, fetch func(context.Context) (T, *failure)) (T, *failure) {
	c.mu.Lock()
	if c.known {
		defer c.mu.Unlock()
		return c.value, nil
	}
	if c.current == nil || !c.current.join() {
		var own *inFlight[T]
		own = launch(ctx, func(ctx context.Context) (T, *failure) {
			value, f := fetch(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			if f == nil {
				c.known, c.value = true, value
			}
			if c.current == own {
				c.current = nil
			}
			return value, f
		})
		own.join()
		c.current = own
	}
	current := c.current
	c.mu.Unlock()
	return current.wait(ctx)
}
