package provider

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/fastpath"
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
	return fastpath.New(presentingServer{newWholeNumberServer(contextReleasingServer{newFramework(p)})}, fastPaths(p))
}

// newFramework is the framework's own server.
func newFramework(p *byokProvider) fastpath.Framework {
	// TestServerHasEveryCall fails where a new version of the framework does
	// not implement it any more.
	return providerserver.NewProtocol6(p)().(fastpath.Framework)
}

// fastPaths are the resources that have one, by type name.
func fastPaths(p *byokProvider) map[string]fastpath.Resource {
	return map[string]fastpath.Resource{keyTypeName: keyFastPath{p}, poolTypeName: poolFastPath{p}}
}

// contextReleasingServer releases the contexts of calls that have ended. The
// framework keeps the cancel function of each call, and thereby its context
// with all its values, until the process ends: some 9 KB a call, and four calls
// a key in each plan.
type contextReleasingServer struct{ fastpath.Framework }

// The calls that Terraform makes once per resource instance.

func (s contextReleasingServer) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	return during(ctx, req, s.Framework.UpgradeResourceState)
}

func (s contextReleasingServer) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return during(ctx, req, s.Framework.ValidateResourceConfig)
}

func (s contextReleasingServer) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	return during(ctx, req, s.Framework.ReadResource)
}

func (s contextReleasingServer) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	return during(ctx, req, s.Framework.PlanResourceChange)
}

func (s contextReleasingServer) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	return during(ctx, req, s.Framework.ApplyResourceChange)
}

func (s contextReleasingServer) ImportResourceState(ctx context.Context, req *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ImportResourceStateResponse, error) {
	return during(ctx, req, s.Framework.ImportResourceState)
}

// ListResource is a call that lasts until its results have been read.
func (s contextReleasingServer) ListResource(ctx context.Context, req *tfprotov6.ListResourceRequest) (*tfprotov6.ListResourceServerStream, error) {
	call := begin(ctx)
	stream, err := s.Framework.ListResource(call, req)
	if err != nil {
		call.end()
		return stream, err
	}
	return &tfprotov6.ListResourceServerStream{Results: func(push func(tfprotov6.ListResourceResult) bool) {
		defer call.end()
		stream.Results(push)
	}}, nil
}

// during makes a call with a context that is released at its end.
func during[Request, Response any](ctx context.Context, req Request, do func(context.Context, Request) (Response, error)) (Response, error) {
	call := begin(ctx)
	defer call.end()
	return do(call, req)
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
