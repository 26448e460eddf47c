package client

import "github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"

// Forget drops the lists that reads share, so that the next read fetches a new
// one.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.scopes {
		w.change(func() { w.snapshot = nil })
	}
	c.workspaces = &cached[[]byok.ListedWorkspace]{}
	c.inherited = map[byok.Scope]*cached[[]string]{}
}
