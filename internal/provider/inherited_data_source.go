package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var _ datasource.DataSourceWithConfigure = (*inheritedDataSource)(nil)

// inheritedDataSource is byok_inherited_providers: what a workspace takes from
// its organization.
type inheritedDataSource struct{ configuredDataSource }

func newInheritedDataSource() datasource.DataSource {
	return &inheritedDataSource{configuredDataSource{&operation{}}}
}

type inheritedModel struct {
	WorkspaceID types.String `tfsdk:"workspace_id"`
	ProviderIDs []string     `tfsdk:"provider_ids"`
}

func (d *inheritedDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_inherited_providers"
}

func (d *inheritedDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists the provider IDs whose keys a workspace takes from its organization. A provider ID for which the workspace stores keys of its own is not inherited: the workspace then uses its own keys alone. " +
			"A self-hosted Sim inherits nothing. Requires read permission on the workspace.",
		Attributes: map[string]schema.Attribute{
			"workspace_id": schema.StringAttribute{
				Optional:            true,
				Computed:            true,
				MarkdownDescription: "ID of the workspace. Default: `workspace_id` of the provider.",
				Validators:          []validator.String{idChecks[byok.Workspace]},
			},
			"provider_ids": schema.ListAttribute{
				ElementType:         types.StringType,
				Computed:            true,
				MarkdownDescription: "The inherited provider IDs, sorted.",
			},
		},
	}
}

func (d *inheritedDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	call := d.operation.beginList()
	defer call.End()
	var model inheritedModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ids := planScope(scopeIDs{byok.Workspace: model.WorkspaceID}, scopeIDs{}, d.operation.workspaceID)
	scope, known := ids.scope()
	switch {
	case ids.isNull():
		resp.Diagnostics.Append(missingDefaultDiagnostic(""))
		return
	case !known:
		resp.Diagnostics.Append(unknownConfigurationDiagnostic("list inherited provider IDs", []string{idAttribute(scope)}))
		return
	}
	api, diags := d.operation.client("list inherited provider IDs")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	inherited, err := api.Inherited(ctx, scope)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "read", inheritedRef(scope)))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, inheritedModel{WorkspaceID: ids[byok.Workspace], ProviderIDs: inherited})...)
}
