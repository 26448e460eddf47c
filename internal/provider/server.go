package provider

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// NewServer returns the constructor of what main serves: the provider, behind
// Terraform's protocol. version is that of the release, for the user agent.
// edits change what a client is made of beyond what users can, as for a test
// that cannot wait as long as they do.
func NewServer(version string, edits ...func(*client.Config)) func() tfprotov6.ProviderServer {
	return func() tfprotov6.ProviderServer {
		return newProtocolServer(&byokProvider{version: version, getenv: os.Getenv, edits: edits})
	}
}

func newProtocolServer(p *byokProvider) tfprotov6.ProviderServer {
	return shortcutServer{contextReleasingServer{providerserver.NewProtocol6(p)()}, p}
}

// contextReleasingServer lets go of the contexts of calls that have ended. The
// framework keeps the cancel function of each call, and thereby its context
// with all that it carries, until the process ends: some 9 KB a call, four
// calls a key in each plan.
type contextReleasingServer struct{ tfprotov6.ProviderServer }

// The calls that Terraform makes once per resource instance.

func (s contextReleasingServer) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	call := begin(ctx)
	defer call.end()
	return s.ProviderServer.UpgradeResourceState(call, req)
}

func (s contextReleasingServer) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	call := begin(ctx)
	defer call.end()
	return s.ProviderServer.ValidateResourceConfig(call, req)
}

func (s contextReleasingServer) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	call := begin(ctx)
	defer call.end()
	return s.ProviderServer.ReadResource(call, req)
}

func (s contextReleasingServer) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	call := begin(ctx)
	defer call.end()
	return s.ProviderServer.PlanResourceChange(call, req)
}

func (s contextReleasingServer) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	call := begin(ctx)
	defer call.end()
	return s.ProviderServer.ApplyResourceChange(call, req)
}

func (s contextReleasingServer) ImportResourceState(ctx context.Context, req *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ImportResourceStateResponse, error) {
	call := begin(ctx)
	defer call.end()
	return s.ProviderServer.ImportResourceState(call, req)
}

// callContext is the context of a call while it lasts, and a cancelled one
// from then on.
type callContext struct {
	current atomic.Pointer[context.Context]
}

func begin(ctx context.Context) *callContext {
	c := &callContext{}
	c.current.Store(&ctx)
	return c
}

func (c *callContext) end() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	c.current.Store(&ended)
}

func (c *callContext) context() context.Context { return *c.current.Load() }

func (c *callContext) Deadline() (time.Time, bool) { return c.context().Deadline() }
func (c *callContext) Done() <-chan struct{}       { return c.context().Done() }
func (c *callContext) Err() error                  { return c.context().Err() }
func (c *callContext) Value(key any) any           { return c.context().Value(key) }
