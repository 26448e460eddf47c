package provider

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/tfcore"
)

// protocol talks to the provider as Terraform does, call by call, for what the
// Terraform at hand does not do: import by identity, or an apply of OpenTofu,
// which gives no hint of being one.
type protocol struct {
	t        testing.TB
	server   tfprotov6.ProviderServer
	schema   *tfprotov6.Schema
	resource tftypes.Object
	identity tftypes.Object
}

func newProtocol(t testing.TB, s *acctest.Server) *protocol {
	t.Helper()
	return newProtocolTo(t, s, newServer(nil))
}

func newProtocolTo(t testing.TB, s *acctest.Server, server tfprotov6.ProviderServer) *protocol {
	t.Helper()
	p := unconfigured(t, server)
	core := tfcore.New(t, func() tfprotov6.ProviderServer { return server }, map[string]any{
		"endpoint": s.URL, "workspace_id": s.WorkspaceID, "session_token": s.SessionToken,
	}, 1)
	if err := core.Begin(t.Context(), false).Err(); err != nil {
		t.Fatal(err)
	}
	return p
}

// unconfigured is a provider as it is before Terraform configures it.
func unconfigured(t testing.TB, server tfprotov6.ProviderServer) *protocol {
	t.Helper()
	p := &protocol{t: t, server: server}
	schemas, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	p.check(schemas.Diagnostics, err)
	p.schema = schemas.ResourceSchemas["byok_key"]
	p.resource = p.schema.ValueType().(tftypes.Object)
	identities, err := server.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	p.check(identities.Diagnostics, err)
	p.identity = identities.IdentitySchemas["byok_key"].ValueType().(tftypes.Object)
	return p
}

func (p *protocol) check(diags []*tfprotov6.Diagnostic, err error) {
	p.t.Helper()
	if err == nil {
		err = tfcore.Diagnostics(diags).Err()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// value is an object with these attributes, all others null. nil is the null
// object.
func (p *protocol) value(object tftypes.Object, attributes map[string]any) *tfprotov6.DynamicValue {
	if attributes == nil {
		return tfcore.Encode(object, tfcore.Null(object))
	}
	return tfcore.Encode(object, tfcore.Object(object, attributes))
}

// attributes is the reverse of value; unknown is the string "(unknown)".
func (p *protocol) attributes(object tftypes.Object, dynamic *tfprotov6.DynamicValue) map[string]any {
	return tfcore.Attributes(tfcore.Decode(object, dynamic))
}

// planned is a key as one plan leaves it for the apply.
type planned struct {
	config, prior map[string]any
	resp          *tfprotov6.PlanResourceChangeResponse
}

// plan plans a change from prior (nil: a create) to config (nil: a delete).
func (p *protocol) plan(prior, config map[string]any, private []byte) planned {
	p.t.Helper()
	return p.planAs(false, prior, config, private)
}

// planAs is plan with the hint that Terraform gives in an apply.
func (p *protocol) planAs(applying bool, prior, config map[string]any, private []byte) planned {
	p.t.Helper()
	from, to := p.value(p.resource, prior), p.value(p.resource, config)
	proposed := tfcore.Proposed(p.schema, tfcore.Decode(p.resource, to), tfcore.Decode(p.resource, from))
	resp, err := p.server.PlanResourceChange(p.t.Context(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: "byok_key", PriorState: from, ProposedNewState: tfcore.Encode(p.resource, proposed), Config: to, PriorPrivate: private,
		ClientCapabilities: &tfprotov6.PlanResourceChangeClientCapabilities{DeferralAllowed: applying},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return planned{config: config, prior: prior, resp: resp}
}

// apply applies what was planned, and returns the new state (nil after a
// delete) and private state.
func (p *protocol) apply(plan planned) (map[string]any, []byte, []*tfprotov6.Diagnostic) {
	p.t.Helper()
	resp, err := p.server.ApplyResourceChange(p.t.Context(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: "byok_key", PriorState: p.value(p.resource, plan.prior), PlannedState: plan.resp.PlannedState,
		Config: p.value(p.resource, plan.config), PlannedPrivate: plan.resp.PlannedPrivate, PlannedIdentity: plan.resp.PlannedIdentity,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.attributes(p.resource, resp.NewState), resp.Private, resp.Diagnostics
}

func (p *protocol) read(state *tfprotov6.DynamicValue, private []byte, identity *tfprotov6.ResourceIdentityData) *tfprotov6.ReadResourceResponse {
	p.t.Helper()
	resp, err := p.server.ReadResource(p.t.Context(), &tfprotov6.ReadResourceRequest{
		TypeName: "byok_key", CurrentState: state, Private: private, CurrentIdentity: identity,
	})
	p.check(resp.Diagnostics, err)
	return resp
}

func TestProtocolImportByIdentity(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	other := s.NewWorkspace(t)
	here, there := s.Add(t, s.WorkspaceID, "openai", secretA, "prod"), s.Add(t, other, "openai", secretA, "prod")
	for title, tc := range map[string]struct {
		identity             map[string]any
		workspaceID, id, err string
	}{
		"both":               {map[string]any{"workspace_id": other, "id": there}, other, there, ""},
		"provider workspace": {map[string]any{"id": here}, s.WorkspaceID, here, ""},
		"wrong workspace":    {map[string]any{"workspace_id": other, "id": here}, "", "", "Cannot import key: the key does not exist"},
		"no ID":              {map[string]any{"workspace_id": other}, "", "", "Invalid identity"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			p := newProtocol(t, s)
			resp, err := p.server.ImportResourceState(t.Context(), &tfprotov6.ImportResourceStateRequest{
				TypeName: "byok_key", Identity: &tfprotov6.ResourceIdentityData{IdentityData: p.value(p.identity, tc.identity)},
			})
			if tc.err != "" {
				if err != nil || len(resp.Diagnostics) != 1 || resp.Diagnostics[0].Summary != tc.err {
					t.Errorf("%v, %v; want %q", resp.Diagnostics, err, tc.err)
				}
				return
			}
			p.check(resp.Diagnostics, err)
			imported := resp.ImportedResources[0]
			read := p.read(imported.State, imported.Private, imported.Identity)
			state := p.attributes(p.resource, read.NewState)
			if state["workspace_id"] != tc.workspaceID || state["id"] != tc.id || state["name"] != "prod" || state["masked_key"] != byok.Mask(secretA) {
				t.Errorf("state %v", state)
			}
			want := map[string]any{"workspace_id": tc.workspaceID, "organization_id": nil, "id": tc.id}
			if diff := cmp.Diff(want, p.attributes(p.identity, read.NewIdentity.IdentityData)); diff != "" {
				t.Errorf("identity: %s", diff)
			}

			config := map[string]any{"workspace_id": tc.workspaceID, "provider_id": "openai", "name": "prod", "api_key_wo": secretA}
			plan := p.plan(state, config, read.Private)
			p.check(plan.resp.Diagnostics, nil)
			if diff := cmp.Diff(state, p.attributes(p.resource, plan.resp.PlannedState)); diff != "" {
				t.Errorf("the plan is not empty: %s", diff)
			}
		})
	}
}

// The identity is there after each operation, and stays the same.
func TestProtocolIdentity(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	p := newProtocol(t, s)
	created := p.plan(nil, map[string]any{"provider_id": "openai", "api_key": secretA}, nil)
	resp, err := p.server.ApplyResourceChange(t.Context(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: "byok_key", PriorState: p.value(p.resource, nil), PlannedState: created.resp.PlannedState, Config: p.value(p.resource, created.config),
	})
	p.check(resp.Diagnostics, err)
	state := p.attributes(p.resource, resp.NewState)
	want := map[string]any{"workspace_id": s.WorkspaceID, "organization_id": nil, "id": s.List(t, s.WorkspaceID)[0].ID}
	if diff := cmp.Diff(want, p.attributes(p.identity, resp.NewIdentity.IdentityData)); diff != "" {
		t.Errorf("create: %s", diff)
	}
	read := p.read(resp.NewState, resp.Private, resp.NewIdentity)
	if diff := cmp.Diff(want, p.attributes(p.identity, read.NewIdentity.IdentityData)); diff != "" {
		t.Errorf("read: %s", diff)
	}
	config := map[string]any{"provider_id": "openai", "api_key": secretB}
	plan, err := p.server.PlanResourceChange(t.Context(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: "byok_key", PriorState: read.NewState, PriorPrivate: read.Private, PriorIdentity: read.NewIdentity,
		Config: p.value(p.resource, config), ProposedNewState: func() *tfprotov6.DynamicValue {
			state["api_key"] = secretB
			return p.value(p.resource, state)
		}(),
	})
	p.check(plan.Diagnostics, err)
	updated, err := p.server.ApplyResourceChange(t.Context(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: "byok_key", PriorState: read.NewState, PlannedState: plan.PlannedState, Config: p.value(p.resource, config),
		PlannedPrivate: plan.PlannedPrivate, PlannedIdentity: plan.PlannedIdentity,
	})
	p.check(updated.Diagnostics, err)
	if diff := cmp.Diff(want, p.attributes(p.identity, updated.NewIdentity.IdentityData)); diff != "" {
		t.Errorf("update: %s", diff)
	}
}

// State of a version of the provider without identities and records is taken
// over, also without a refresh.
func TestProtocolStateWithoutRecord(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	id := s.Add(t, s.WorkspaceID, "openai", secretA, "")
	k := s.List(t, s.WorkspaceID)[0]
	p := newProtocol(t, s)
	state := map[string]any{
		"workspace_id": s.WorkspaceID, "provider_id": "openai", "id": id, "masked_key": k.MaskedKey, "created_by": *k.CreatedBy,
		"created_at": k.CreatedAt, "updated_at": k.UpdatedAt, "on_remote_change": "repair", "api_key": secretA,
	}
	plan := p.plan(state, map[string]any{"provider_id": "openai", "api_key": secretB}, nil)
	p.check(plan.resp.Diagnostics, nil)
	after, private, diags := p.apply(plan)
	p.check(diags, nil)
	if after["masked_key"] != byok.Mask(secretB) || after["id"] != id {
		t.Errorf("state %v", after)
	}
	if next := p.plan(after, map[string]any{"provider_id": "openai", "api_key": secretB}, private); !cmp.Equal(after, p.attributes(p.resource, next.resp.PlannedState)) {
		t.Error("the next plan is not empty")
	}
}

// The second call of a replace has no state: its private state names the key
// that goes, so that a full pool has free capacity.
func TestProtocolForcedReplaceAtTheCap(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	p := newProtocol(t, s)
	config := map[string]any{"provider_id": "openai", "api_key_wo": secretA}
	var states []map[string]any
	var privates [][]byte
	for range byok.Cap {
		state, private, diags := p.apply(p.plan(nil, config, nil))
		p.check(diags, nil)
		states, privates = append(states, state), append(privates, private)
	}
	later := newProtocol(t, s)
	for i, state := range states {
		first := later.plan(state, config, privates[i])
		later.check(first.resp.Diagnostics, nil)
		if i == 0 {
			second := later.plan(nil, config, first.resp.PlannedPrivate)
			later.check(second.resp.Diagnostics, nil)
		}
	}
}

// An apply of OpenTofu: nothing shows that it is one until the first
// change arrives.
func TestProtocolApplyWithoutHint(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	config := map[string]any{"provider_id": "openai", "api_key_wo": secretA}
	p := newProtocol(t, s)
	var states []map[string]any
	for range byok.Cap {
		state, _, diags := p.apply(p.plan(nil, config, nil))
		p.check(diags, nil)
		states = append(states, state)
	}

	later := newProtocol(t, s)
	_, _, diags := later.apply(planned{prior: states[0], resp: &tfprotov6.PlanResourceChangeResponse{PlannedState: later.value(later.resource, nil)}})
	later.check(diags, nil)
	s.Reset()
	var creates []planned
	for range 3 { // two of them more than the pool can hold: the API decides
		plan := later.plan(nil, config, nil)
		later.check(plan.resp.Diagnostics, nil)
		creates = append(creates, plan)
	}
	if lists := s.Count("GET", keysPath); lists != 0 {
		t.Errorf("%d lists", lists)
	}
	_, _, diags = later.apply(creates[0])
	later.check(diags, nil)
}

// The responses of the provider never contain the write-only value.
func TestProtocolWriteOnlyValueStaysOut(t *testing.T) {
	t.Parallel()
	s := acctest.Start(t)
	p := newProtocol(t, s)
	config := map[string]any{"provider_id": "openai", "api_key_wo": secretA}
	plan := p.plan(nil, config, nil)
	state, private, diags := p.apply(plan)
	p.check(diags, nil)
	for where, data := range map[string]string{
		"planned state": string(plan.resp.PlannedState.MsgPack), "planned private state": string(plan.resp.PlannedPrivate), "private state": string(private),
	} {
		if strings.Contains(data, secretA) {
			t.Errorf("the value is in the %s", where)
		}
	}
	if state["api_key_wo"] != nil || state["api_key"] != nil {
		t.Errorf("state %v", state)
	}
}

// What Terraform calls before it configures a provider works without that.
func TestProtocolValidateWithoutConfigure(t *testing.T) {
	t.Parallel()
	p := unconfigured(t, newServer(nil))
	resp, err := p.server.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{
		TypeName: "byok_key", Config: p.value(p.resource, map[string]any{"provider_id": "openai"}),
		ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
	})
	p.check(resp.Diagnostics, err)
}
