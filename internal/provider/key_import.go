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
const importForms = "WORKSPACE_ID/PROVIDER_ID/KEY_ID, WORKSPACE_ID/KEY_ID, or KEY_ID alone with the workspace_id of the provider; organization/ORGANIZATION_ID/PROVIDER_ID/KEY_ID for a key of an organization"

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
	if id.scope.ID == "" {
		if id.scope = byok.WorkspaceScope(r.operation.workspaceID.ValueString()); id.scope.ID == "" {
			resp.Diagnostics.AddError("Missing workspace ID", fmt.Sprintf(
				"The import ID of the key %q has no workspace, and the provider has none either. Use WORKSPACE_ID/%s, or set workspace_id in the provider block (%s).", id.keyID, id.keyID, envWorkspaceID))
			return
		}
	}

	pool := byok.Pool{Scope: id.scope, ProviderID: id.providerID}
	ref := keyRef{pool: pool, keyID: id.keyID}
	key, err := api.Key(ctx, pool.Scope, id.keyID)
	switch {
	case client.IsKind(err, client.KindKeyNotFound):
		resp.Diagnostics.AddError("Cannot import key: the key does not exist", fmt.Sprintf(
			"There is no %s. Key IDs have 21 characters; the data source byok_keys lists those of a %s.", ref, pool.Scope.Kind))
		return
	case err != nil:
		resp.Diagnostics.Append(clientDiagnostic(err, "import", ref))
		return
	case id.providerID != "" && id.providerID != key.ProviderID:
		resp.Diagnostics.AddError("Cannot import key: it has another provider ID", fmt.Sprintf(
			"The key %q belongs to the provider ID %q, not to %q. Use %s/%s/%s.", id.keyID, key.ProviderID, id.providerID, id.scope, key.ProviderID, id.keyID))
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
	resp.Diagnostics.Append(resp.Identity.Set(ctx, keyModel{ID: state["id"]}.withScope(idsOf(id.scope)).identity())...)
}

// importID is what an import is about: keyID always, the others or "".
type importID struct {
	scope             byok.Scope
	providerID, keyID string
}

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
		diags.AddError("Invalid identity", "The identity of a byok_key needs id, the ID of the key. workspace_id is optional; default: that of the provider. A key of an organization needs organization_id.")
	}
	if !identity.WorkspaceID.IsNull() && !identity.OrganizationID.IsNull() {
		diags.AddError("Invalid identity", "The identity of a byok_key has either workspace_id or organization_id, not both.")
	}
	scope, _ := scopeIDs{byok.Workspace: identity.WorkspaceID, byok.Organization: identity.OrganizationID}.scope()
	return importID{scope: scope, keyID: identity.ID.ValueString()}, diags
}

// parseImportID takes an import ID apart.
func parseImportID(text string) (id importID, diags diag.Diagnostics) {
	if text == "" {
		diags.AddError("Invalid import ID", fmt.Sprintf("The import ID is empty. Expected: %s.", importForms))
		return importID{}, diags
	}
	parts := strings.Split(text, "/")
	scope, rest := parseScope(parts, 2)
	switch len(rest) {
	case 1:
		id = importID{scope: scope, keyID: rest[0]}
	case 2:
		id = importID{scope: scope, providerID: rest[0], keyID: rest[1]}
	default:
		diags.AddError("Invalid import ID", fmt.Sprintf("%q has %d parts separated by slashes, which is more than expected: %s.", text, len(parts), importForms))
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
