// Package fastpath handles resource instances that do not change, without the
// framework. In most plans that is nearly all of them. Terraform makes four
// calls for each instance, and through the framework each call takes some 2,000
// allocations to return what was sent: two thirds of the provider's CPU time in
// a large plan.
//
// The package can return nothing but what Terraform sent: a read gives back the
// state, a plan gives back the prior state. A plan takes this path only if two
// conditions hold: the resource's own planning function finds nothing to do,
// and the prior and the proposed state are equal byte for byte in every
// attribute that is not write-only, by the schema that Terraform was given. In
// every other case, and for every value of a form that is not understood here
// or by the resource, the framework decides. Nothing has been changed or
// recorded by then, so the call can be repeated.
package fastpath

import (
	"bytes"
	"context"
	"sync"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Framework is a server of the framework: every call of Terraform's protocol,
// including those that terraform-plugin-go keeps in interfaces of their own and
// looks for with a type assertion. A wrapper that embeds
// tfprotov6.ProviderServer alone would hide them.
type Framework interface {
	tfprotov6.ProviderServer
	tfprotov6.ListResourceServer
	tfprotov6.ActionServer
	tfprotov6.StateStoreServer
}

// Resource is a managed resource with an identity. Every method may decline,
// and must then have changed nothing. Values are MessagePack, as in the
// protocol.
type Resource interface {
	// Valid reports whether validation finds nothing to report.
	Valid(config []byte) bool
	// Read reports whether a read leaves the state and private state as they
	// are, with nothing to report. It also returns the identity. It may ask the
	// API; the framework's read gets an error of that from ReadError.
	Read(ctx context.Context, state, private []byte) (identity []byte, unchanged bool, err error)
	// Plan reports whether the resource plans no change, with nothing to
	// report. It also returns the planned private state. The proposed state is
	// that of the request: it equals the prior one, apart from the schema's
	// defaults.
	Plan(PlanRequest) (private []byte, unchanged bool)
}

// PlanRequest is what Terraform sends for the plan of an instance that exists.
type PlanRequest struct {
	Config, Prior, Private []byte
	// DeferralAllowed is a capability that the client reports.
	DeferralAllowed bool
}

// Server is a Framework with a fast path in front of it.
type Server struct {
	Framework
	resources map[string]Resource
	schemas   *schemas
	reads     *reads
}

// New puts a fast path for resources, by type name, in front of next.
func New(next Framework, resources map[string]Resource) Server {
	return Server{Framework: next, resources: resources, schemas: &schemas{}, reads: &reads{cancels: map[int]context.CancelFunc{}}}
}

// GetProviderSchema also keeps what the fast path needs of the schemas.
func (s Server) GetProviderSchema(ctx context.Context, req *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	resp, err := s.Framework.GetProviderSchema(ctx, req)
	if err == nil {
		s.schemas.set(resp)
	}
	return resp, err
}

// resource returns a resource and its schema, or false where there is no fast
// path.
func (s Server) resource(typeName string) (Resource, *schema, bool) {
	r, ok := s.resources[typeName]
	if !ok {
		return nil, nil, false
	}
	sch := s.schemas.get(s.Framework)[typeName]
	return r, sch, sch != nil
}

// UpgradeResourceState decodes a state of the present version of the schema.
func (s Server) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	if _, sch, ok := s.resource(req.TypeName); ok && req.Version == sch.version && req.RawState != nil {
		if state, ok := sch.fromJSON(req.RawState.JSON); ok {
			return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: &tfprotov6.DynamicValue{MsgPack: state}}, nil
		}
	}
	return s.Framework.UpgradeResourceState(ctx, req)
}

// ValidateResourceConfig accepts a configuration without findings.
func (s Server) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	if r, _, ok := s.resource(req.TypeName); ok && req.ClientCapabilities != nil && req.ClientCapabilities.WriteOnlyAttributesAllowed {
		if config := encoded(req.Config); config != nil && r.Valid(config) {
			return &tfprotov6.ValidateResourceConfigResponse{}, nil
		}
	}
	return s.Framework.ValidateResourceConfig(ctx, req)
}

// ReadResource returns the state that was sent.
func (s Server) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	if r, _, ok := s.resource(req.TypeName); ok {
		resp, err := s.read(ctx, r, req)
		if resp != nil {
			return resp, nil
		}
		if err != nil {
			ctx = context.WithValue(ctx, readError{}, err)
		}
	}
	return s.Framework.ReadResource(ctx, req)
}

// read returns a response, an error of the API, or neither.
func (s Server) read(ctx context.Context, r Resource, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	state := encoded(req.CurrentState)
	if state == nil {
		return nil, nil
	}
	ctx, release := s.reads.begin(ctx)
	defer release()
	identity, unchanged, err := r.Read(ctx, state, req.Private)
	if err != nil || !unchanged {
		return nil, err
	}
	if req.CurrentIdentity != nil && !bytes.Equal(encoded(req.CurrentIdentity.IdentityData), identity) {
		return nil, nil
	}
	return &tfprotov6.ReadResourceResponse{NewState: req.CurrentState, Private: req.Private, NewIdentity: identityOf(identity)}, nil
}

// readError is the key of an error in the context of a read.
type readError struct{}

// ReadError returns the error that the fast path got from the API in the same
// read, so that the framework's read need not ask again; nil if there was none.
func ReadError(ctx context.Context) error {
	err, _ := ctx.Value(readError{}).(error)
	return err
}

// StopProvider also ends the reads of the fast path.
func (s Server) StopProvider(ctx context.Context, req *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	s.reads.stop()
	return s.Framework.StopProvider(ctx, req)
}

// reads are those of the fast path that are under way.
type reads struct {
	mu      sync.Mutex
	begun   int
	cancels map[int]context.CancelFunc
}

// begin returns the context of a read that stop ends, and what releases it.
func (r *reads) begin(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
	read := r.begun
	r.cancels[read] = cancel
	return ctx, func() {
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.cancels, read)
	}
}

// stop ends the reads under way; as in the framework, later ones are made.
func (r *reads) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.cancels {
		cancel()
	}
}

// PlanResourceChange returns the prior state that was sent.
func (s Server) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	if r, sch, ok := s.resource(req.TypeName); ok {
		if resp := plan(r, sch, req); resp != nil {
			return resp, nil
		}
	}
	return s.Framework.PlanResourceChange(ctx, req)
}

func plan(r Resource, sch *schema, req *tfprotov6.PlanResourceChangeRequest) *tfprotov6.PlanResourceChangeResponse {
	prior, proposed, config := encoded(req.PriorState), encoded(req.ProposedNewState), encoded(req.Config)
	if prior == nil || proposed == nil || config == nil || !sch.same(prior, proposed) {
		return nil
	}
	private, unchanged := r.Plan(PlanRequest{
		Config: config, Prior: prior, Private: req.PriorPrivate,
		DeferralAllowed: req.ClientCapabilities != nil && req.ClientCapabilities.DeferralAllowed,
	})
	if !unchanged {
		return nil
	}
	identity := req.PriorIdentity
	if identity == nil { // Terraform before 1.12 sends none
		identity = identityOf([]byte{msgpcode.Nil})
	}
	return &tfprotov6.PlanResourceChangeResponse{PlannedState: req.PriorState, PlannedPrivate: private, PlannedIdentity: identity}
}

// encoded returns the MessagePack of a value that is not null, else nil.
func encoded(value *tfprotov6.DynamicValue) []byte {
	if value == nil || len(value.MsgPack) == 0 || value.MsgPack[0] == msgpcode.Nil {
		return nil
	}
	return value.MsgPack
}

func identityOf(data []byte) *tfprotov6.ResourceIdentityData {
	return &tfprotov6.ResourceIdentityData{IdentityData: &tfprotov6.DynamicValue{MsgPack: data}}
}
