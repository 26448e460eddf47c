package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// shortcutServer answers for keys that stay as they are, which in most plans
// are nearly all. Terraform asks about each of them four times, and through the
// framework the answer, which is what was sent, takes some 2,000 allocations
// each time: two thirds of the provider's CPU time in a large plan.
//
// The decisions are those of refresh, planUpdate and the validators, as in
// keyResource. Where they find anything to do or to say, or where a value is of
// an unusual form (unknown, timeouts), the framework is asked as if nothing had
// been: no request has been sent, and the ledger minds no repetition.
// TestShortcuts holds both ways to the same answers.
type shortcutServer struct {
	tfprotov6.ProviderServer
	provider *byokProvider
}

func (s shortcutServer) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	if req.TypeName == keyTypeName && req.Version == keySchemaVersion {
		if state, ok := decodeStored(req.RawState); ok {
			return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: encodeKey(state)}, nil
		}
	}
	return s.ProviderServer.UpgradeResourceState(ctx, req)
}

func (s shortcutServer) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	if req.TypeName == keyTypeName && req.ClientCapabilities != nil && req.ClientCapabilities.WriteOnlyAttributesAllowed {
		if config, ok := decodeKey(req.Config); ok && config.isValid() {
			return &tfprotov6.ValidateResourceConfigResponse{}, nil
		}
	}
	return s.ProviderServer.ValidateResourceConfig(ctx, req)
}

func (s shortcutServer) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	if w := s.provider.operation.Load(); w != nil && req.TypeName == keyTypeName {
		if resp := w.readUnchanged(req); resp != nil {
			return resp, nil
		}
	}
	return s.ProviderServer.ReadResource(ctx, req)
}

func (s shortcutServer) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	if w := s.provider.operation.Load(); w != nil && req.TypeName == keyTypeName {
		if resp := w.planUnchanged(req); resp != nil {
			return resp, nil
		}
	}
	return s.ProviderServer.PlanResourceChange(ctx, req)
}

// readUnchanged answers a read of a key that is as the state shows it, if the
// list that tells is there already; else it returns nil.
func (w *operation) readUnchanged(req *tfprotov6.ReadResourceRequest) *tfprotov6.ReadResourceResponse {
	prior, ok := decodeKey(req.CurrentState)
	if !ok || w.client == nil {
		return nil
	}
	identity := prior.identity().encode()
	if req.CurrentIdentity != nil && !sameIdentity(req.CurrentIdentity, identity) {
		return nil
	}
	record, ok := decodePrivate(req.Private, prior)
	if !ok {
		return nil
	}
	call := w.beginRead()
	defer call.End()
	key, ok := w.client.Listed(prior.scope(), prior.ID.ValueString())
	if !ok {
		return nil
	}
	if _, _, changed := refresh(prior, record, key); changed {
		return nil
	}
	pool, _ := prior.pool()
	call.Read(pool, key.ID)
	return &tfprotov6.ReadResourceResponse{NewState: req.CurrentState, Private: req.Private, NewIdentity: identity}
}

// planUnchanged answers the plan of a key that is to stay as it is; else it
// returns nil.
func (w *operation) planUnchanged(req *tfprotov6.PlanResourceChangeRequest) *tfprotov6.PlanResourceChangeResponse {
	prior, ok := decodeKey(req.PriorState)
	if !ok {
		return nil
	}
	config, ok := decodeKey(req.Config)
	if !ok {
		return nil
	}
	record, ok := decodePrivate(req.PriorPrivate, prior)
	if !ok {
		return nil
	}
	// What is configured; planUpdate fills in the rest.
	proposed := config
	proposed.APIKeyWO = types.StringNull()
	if proposed.OnRemoteChange.IsNull() {
		proposed.OnRemoteChange = types.StringValue(onRemoteChangeRepair)
	}
	p := planUpdate(config, proposed, prior, record, w.workspaceID)
	if !p.planned.equal(prior) || p.drift != (drift{}) {
		return nil
	}
	private, err := encodePrivate(record)
	if err != nil {
		return nil
	}

	call := w.beginPlan(req.ClientCapabilities != nil && req.ClientCapabilities.DeferralAllowed, false)
	defer call.End()
	if pool, _ := prior.pool(); !call.KeepUnchanged(pool, prior.ID.ValueString()) {
		return nil
	}
	identity := req.PriorIdentity
	if identity == nil { // Terraform before 1.12 knows of none
		identity = nullIdentity()
	}
	return &tfprotov6.PlanResourceChangeResponse{PlannedState: req.PriorState, PlannedPrivate: private, PlannedIdentity: identity}
}
