package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// importForms is what an import ID can look like.
const importForms = "WORKSPACE_ID/PROVIDER_ID/KEY_ID, WORKSPACE_ID/KEY_ID, or KEY_ID alone with the workspace_id of the provider"

// ImportState finds the key by its ID or identity. Read, which follows, fills
// the rest of the state and records the key as adopted.
func (r *keyResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	call := r.operation.beginRead()
	defer call.End()
	api, diags := r.operation.client("import the key")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	id, diags := importIDOf(ctx, req)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	if id.workspaceID == "" {
		if id.workspaceID = r.operation.workspaceID.ValueString(); id.workspaceID == "" {
			resp.Diagnostics.AddError("Missing workspace ID", fmt.Sprintf(
				"The import ID of the key %q has no workspace, and the provider has none either. Use WORKSPACE_ID/%s, or set workspace_id in the provider block (%s).", id.keyID, id.keyID, envWorkspaceID))
			return
		}
	}

	pool := byok.Pool{Scope: byok.WorkspaceScope(id.workspaceID), ProviderID: id.providerID}
	ref := keyRef{pool: pool, keyID: id.keyID}
	key, err := api.Key(ctx, pool.Scope, id.keyID)
	switch {
	case client.IsKind(err, client.KindKeyNotFound):
		resp.Diagnostics.AddError("Cannot import key: the key does not exist", fmt.Sprintf(
			"There is no %s. Key IDs have 21 characters; the data source byok_keys lists those of a workspace.", ref))
		return
	case err != nil:
		resp.Diagnostics.Append(clientDiagnostic(err, "import", ref))
		return
	case id.providerID != "" && id.providerID != key.ProviderID:
		resp.Diagnostics.AddError("Cannot import key: it has another provider ID", fmt.Sprintf(
			"The key %q belongs to the provider ID %q, not to %q. Use %s/%s/%s.", id.keyID, key.ProviderID, id.providerID, id.workspaceID, key.ProviderID, id.keyID))
		return
	}

	state := map[string]types.String{
		"workspace_id": types.StringValue(id.workspaceID),
		"provider_id":  types.StringValue(key.ProviderID),
		"id":           types.StringValue(key.ID),
		// The default of the configuration: otherwise the first plan of an
		// imported key would never be empty.
		"on_remote_change": types.StringValue(onRemoteChangeRepair),
	}
	for name, value := range state {
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root(name), value)...)
	}
	resp.Diagnostics.Append(resp.Identity.Set(ctx, keyIdentity{WorkspaceID: state["workspace_id"], ID: state["id"]})...)
}

// importID is what an import is about: keyID always, the others or "".
type importID struct{ workspaceID, providerID, keyID string }

func importIDOf(ctx context.Context, req resource.ImportStateRequest) (importID, diag.Diagnostics) {
	if req.ID != "" || req.Identity == nil || req.Identity.Raw.IsNull() {
		return parseImportID(req.ID)
	}
	var identity keyIdentity
	diags := req.Identity.Get(ctx, &identity)
	if diags.HasError() {
		return importID{}, diags
	}
	if identity.ID.ValueString() == "" {
		diags.AddError("Invalid identity", "The identity of a byok_key needs id, the ID of the key. workspace_id is optional; default: that of the provider.")
	}
	return importID{workspaceID: identity.WorkspaceID.ValueString(), keyID: identity.ID.ValueString()}, diags
}

// parseImportID takes an import ID apart.
func parseImportID(text string) (id importID, diags diag.Diagnostics) {
	if text == "" {
		diags.AddError("Invalid import ID", fmt.Sprintf("The import ID is empty. Expected: %s.", importForms))
		return importID{}, diags
	}
	parts := strings.Split(text, "/")
	switch len(parts) {
	case 1:
		id = importID{keyID: parts[0]}
	case 2:
		id = importID{workspaceID: parts[0], keyID: parts[1]}
	case 3:
		id = importID{workspaceID: parts[0], providerID: parts[1], keyID: parts[2]}
	default:
		diags.AddError("Invalid import ID", fmt.Sprintf("%q has %d parts separated by slashes, but at most 3 are expected: %s.", text, len(parts), importForms))
		return importID{}, diags
	}
	for i, part := range parts {
		if part == "" || strings.ContainsFunc(part, isBlank) {
			diags.AddError("Invalid import ID", fmt.Sprintf("Part %d of %q is empty or contains whitespace. Expected: %s.", i+1, text, importForms))
			return importID{}, diags
		}
	}
	return id, diags
}
