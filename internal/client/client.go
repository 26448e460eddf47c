package client

import (
	"context"
	"errors"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// Client speaks to one Sim as one user. It is made for one Terraform walk:
// its snapshots live as long as it does. Safe for concurrent use.
type Client struct{}

// AddInput is a new key.
type AddInput struct {
	ProviderID string
	APIKey     string
	// Name is the label; nil or blank for none.
	Name *string
	// WaitForRoom makes an add that finds its pool full wait, until ctx ends,
	// for keys of the pool to be deleted.
	WaitForRoom bool
}

// ReplaceInput is what a stored key becomes.
type ReplaceInput struct {
	ProviderID string
	KeyID      string
	// APIKey is needed even for a rename. WIRE.md section 5.
	APIKey string
	// Name nil leaves the stored name alone, blank clears it.
	Name *string
}

// New returns a Client, or a *ConfigError. It does no I/O.
func New(cfg Config) (*Client, error) { return &Client{}, nil }

// List returns every key of the workspace by provider ID, then in rotation
// order, from the snapshot that all reads of this Client share: one request
// per workspace, and another one after the Client's own writes.
func (c *Client) List(ctx context.Context, workspaceID string) ([]byok.Key, error) {
	return nil, errors.ErrUnsupported
}

// Key returns one key from the snapshot, or KindKeyNotFound.
func (c *Client) Key(ctx context.Context, workspaceID, keyID string) (byok.Key, error) {
	return byok.Key{}, errors.ErrUnsupported
}

// Add stores a new key and returns its full record. When the answer is lost,
// it finds out whether the key was stored before it sends it again.
func (c *Client) Add(ctx context.Context, workspaceID string, in AddInput) (byok.Key, error) {
	return byok.Key{}, errors.ErrUnsupported
}

// Replace gives a stored key another secret, and another name unless
// in.Name is nil, and returns its full record.
func (c *Client) Replace(ctx context.Context, workspaceID string, in ReplaceInput) (byok.Key, error) {
	return byok.Key{}, errors.ErrUnsupported
}

// Delete removes one key. A key that is gone already is KindKeyNotFound,
// unless an earlier attempt of this very call may have removed it.
func (c *Client) Delete(ctx context.Context, workspaceID, providerID, keyID string) error {
	return errors.ErrUnsupported
}
