package provider

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/testkit/acctest"
)

// BenchmarkNoopPlan is what a plan without changes asks of the provider:
// four calls per key, 10 keys in each of 10 workspaces, without Terraform and
// without gRPC.
func BenchmarkNoopPlan(b *testing.B) {
	s := acctest.Start(b)
	p := newProtocol(b, s)
	type key struct {
		config, proposed *tfprotov6.DynamicValue
		state            []byte
		resp             *tfprotov6.ApplyResourceChangeResponse
	}
	var keys []key
	for range 10 {
		workspaceID := s.NewWorkspace(b)
		for i := range 10 {
			config := map[string]any{
				"workspace_id": workspaceID, "provider_id": "openai", "name": fmt.Sprintf("key-%d", i), "api_key_wo": secretA, "on_remote_change": nil,
			}
			proposed := map[string]any{"workspace_id": workspaceID, "provider_id": "openai", "name": config["name"]}
			plan, err := p.server.PlanResourceChange(b.Context(), &tfprotov6.PlanResourceChangeRequest{
				TypeName: "byok_key", PriorState: p.value(p.resource, nil),
				Config: p.value(p.resource, config), ProposedNewState: p.value(p.resource, proposed),
			})
			p.check(plan.Diagnostics, err)
			resp, err := p.server.ApplyResourceChange(b.Context(), &tfprotov6.ApplyResourceChangeRequest{
				TypeName: "byok_key", PriorState: p.value(p.resource, nil), Config: p.value(p.resource, config),
				PlannedState: plan.PlannedState, PlannedPrivate: plan.PlannedPrivate, PlannedIdentity: plan.PlannedIdentity,
			})
			p.check(resp.Diagnostics, err)
			attributes := p.attributes(p.resource, resp.NewState)
			state, err := json.Marshal(attributes)
			if err != nil {
				b.Fatal(err)
			}
			attributes["api_key_wo"] = secretA // as Terraform proposes it
			keys = append(keys, key{p.value(p.resource, config), p.value(p.resource, attributes), state, resp})
		}
	}

	b.ReportAllocs()
	for b.Loop() {
		operation := newProtocol(b, s)
		for _, k := range keys {
			upgraded, err := operation.server.UpgradeResourceState(b.Context(), &tfprotov6.UpgradeResourceStateRequest{
				TypeName: "byok_key", RawState: &tfprotov6.RawState{JSON: k.state},
			})
			operation.check(upgraded.Diagnostics, err)
			valid, err := operation.server.ValidateResourceConfig(b.Context(), &tfprotov6.ValidateResourceConfigRequest{
				TypeName: "byok_key", Config: k.config,
				ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
			})
			operation.check(valid.Diagnostics, err)
			read := operation.read(upgraded.UpgradedState, k.resp.Private, k.resp.NewIdentity)
			plan, err := operation.server.PlanResourceChange(b.Context(), &tfprotov6.PlanResourceChangeRequest{
				TypeName: "byok_key", PriorState: read.NewState, ProposedNewState: k.proposed, Config: k.config,
				PriorPrivate: read.Private, PriorIdentity: read.NewIdentity,
			})
			operation.check(plan.Diagnostics, err)
			if string(plan.PlannedState.MsgPack) != string(read.NewState.MsgPack) {
				b.Fatal("the plan changes something")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(keys))/float64(time.Microsecond), "µs/key")
}
