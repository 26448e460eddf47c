package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// ImportState finds the key by its ID or identity. Read, which follows, fills
// the rest of the state and records the key as adopted.
func (r *keyResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	call := r.operation.beginRead()
	defer call.End()
	api, diags := r.operation.client("import the key")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	id, diags := keyIdentity.imported(ctx, req, r.operation.workspaceID)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}

	pool := byok.Pool{Scope: id.scope, ProviderID: id.providerID}
	ref := keyRef{pool: pool, keyID: id.name}
	key, err := api.Key(ctx, pool.Scope, id.name)
	switch {
	case client.IsKind(err, client.KindKeyNotFound):
		resp.Diagnostics.AddError("Cannot import key: the key does not exist", fmt.Sprintf(
			"There is no %s. Key IDs have 21 characters; the data source byok_keys lists those of %s %s.", ref, scopeKinds[pool.Scope.Kind].article, pool.Scope.Kind))
		return
	case err != nil:
		resp.Diagnostics.Append(clientDiagnostic(err, "import", ref))
		return
	case id.providerID != "" && id.providerID != key.ProviderID:
		resp.Diagnostics.AddError("Cannot import key: it has another provider ID", fmt.Sprintf(
			"The key %q belongs to the provider ID %q, not to %q. Use %s/%s/%s.", id.name, key.ProviderID, id.providerID, id.scope, key.ProviderID, id.name))
		return
	}

	state := map[string]types.String{
		"provider_id": types.StringValue(key.ProviderID),
		"id":          types.StringValue(key.ID),
		// The default of the configuration: otherwise the first plan of an
		// imported key would never be empty.
		"on_remote_change": types.StringValue(onRemoteChangeRepair),
	}
	state[idAttribute(id.scope)] = types.StringValue(id.scope.ID)
	for name, value := range state {
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root(name), value)...)
	}
	resp.Diagnostics.Append(resp.Identity.Set(ctx, keyModel{ID: state["id"]}.withScope(idsOf(id.scope)).identity().value())...)
}
