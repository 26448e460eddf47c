package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// poolImportForms is what an import ID of a pool can look like.
const poolImportForms = "WORKSPACE_ID/PROVIDER_ID, or PROVIDER_ID alone with the workspace_id of the provider"

// ImportState makes every stored key of the pool an element. Read, which
// follows, leaves a record of keys that are adopted as they are.
func (r *poolResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	call := r.operation.beginRead()
	defer call.End()
	api, diags := r.operation.client("import the pool")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	workspaceID, providerID, diags := poolImportIDOf(ctx, req)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	if workspaceID == "" {
		if workspaceID = r.operation.workspaceID.ValueString(); workspaceID == "" {
			resp.Diagnostics.AddError("Missing workspace ID", fmt.Sprintf(
				"To import the pool %q, the provider has to know its workspace. Use WORKSPACE_ID/%s, or set workspace_id in the provider block (%s).", providerID, providerID, envWorkspaceID))
			return
		}
	}
	pool := byok.Pool{Scope: byok.WorkspaceScope(workspaceID), ProviderID: providerID}
	keys, err := api.List(ctx, pool.Scope)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "import", keysRef(pool)))
		return
	}
	stored := inPool(keys, pool)
	if len(stored) == 0 {
		resp.Diagnostics.AddError("Cannot import pool: it is empty", fmt.Sprintf(
			"There are no %s. An empty pool needs no import: without the import, the plan creates its keys. The data source byok_keys lists the keys of a workspace.", keysRef(pool)))
		return
	}
	state := importedPool(pool, stored)
	resp.Diagnostics.Append(resp.State.Set(ctx, state.value(ctx))...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, state.identity())...)
}

// importedPool is the state of a pool with all its stored keys. What a
// configuration does not have to say has its default: an imported pool would
// otherwise never plan empty.
func importedPool(pool byok.Pool, stored []byok.Key) poolModel {
	m := poolModel{
		WorkspaceID: types.StringValue(pool.Scope.ID),
		ProviderID:  types.StringValue(pool.ProviderID),
		Keys:        objectMap[poolKey]{elements: map[string]poolKey{}},
		Unmanaged:   objectMap[unmanagedKey]{elements: map[string]unmanagedKey{}},
		Timeouts:    nullTimeouts(),
	}.withDefaults()
	for name, key := range importNames(stored) {
		m.Keys.elements[name] = poolKeyOf(m.key(name).withRemote(key))
	}
	return m
}

func poolImportIDOf(ctx context.Context, req resource.ImportStateRequest) (workspaceID, providerID string, diags diag.Diagnostics) {
	if req.ID != "" {
		return parsePoolImportID(req.ID)
	}
	var identity poolIdentity
	if diags = req.Identity.Get(ctx, &identity); diags.HasError() {
		return "", "", diags
	}
	if identity.ProviderID.ValueString() == "" {
		diags.AddError("Invalid identity", "The identity of a byok_pool needs provider_id, the provider ID of the pool. workspace_id is optional; default: that of the provider.")
	}
	return identity.WorkspaceID.ValueString(), identity.ProviderID.ValueString(), diags
}

// parsePoolImportID takes an import ID apart.
func parsePoolImportID(text string) (workspaceID, providerID string, diags diag.Diagnostics) {
	workspaceID, providerID, two := strings.Cut(text, "/")
	if !two {
		workspaceID, providerID = "", text
	}
	if strings.Contains(providerID, "/") {
		diags.AddError("Invalid import ID", fmt.Sprintf("%q has %d parts between slashes, at most 2 are expected: %s.", text, strings.Count(text, "/")+1, poolImportForms))
		return "", "", diags
	}
	for i, part := range strings.Split(text, "/") {
		if part == "" || strings.ContainsFunc(part, isBlank) {
			diags.AddError("Invalid import ID", fmt.Sprintf("Part %d of %q is empty or has white space. Expected: %s.", i+1, text, poolImportForms))
			return "", "", diags
		}
	}
	return workspaceID, providerID, nil
}
