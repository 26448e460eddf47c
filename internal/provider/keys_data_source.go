package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

var _ datasource.DataSourceWithConfigure = (*keysDataSource)(nil)

// keysDataSource is byok_keys: the stored keys of a workspace.
type keysDataSource struct{ operation *operation }

func newKeysDataSource() datasource.DataSource { return &keysDataSource{operation: &operation{}} }

type keysModel struct {
	WorkspaceID types.String         `tfsdk:"workspace_id"`
	ProviderID  types.String         `tfsdk:"provider_id"`
	Keys        []listedKey          `tfsdk:"keys"`
	Pools       map[string]poolUsage `tfsdk:"pools"`
}

type listedKey struct {
	ID         string  `tfsdk:"id"`
	ProviderID string  `tfsdk:"provider_id"`
	Name       *string `tfsdk:"name"`
	MaskedKey  string  `tfsdk:"masked_key"`
	CreatedBy  *string `tfsdk:"created_by"`
	CreatedAt  string  `tfsdk:"created_at"`
	UpdatedAt  string  `tfsdk:"updated_at"`
	ImportID   string  `tfsdk:"import_id"`
}

type poolUsage struct {
	Count     int64 `tfsdk:"count"`
	Remaining int64 `tfsdk:"remaining"`
	Full      bool  `tfsdk:"full"`
}

func (d *keysDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_keys"
}

func (d *keysDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists all keys that a Sim workspace stores, without their secrets, and how full their pools are. Requires read permission on the workspace.",
		Attributes: map[string]schema.Attribute{
			"workspace_id": schema.StringAttribute{
				Optional:            true,
				Computed:            true,
				MarkdownDescription: "ID of the workspace. Default: `workspace_id` of the provider.",
				Validators:          []validator.String{idCheck},
			},
			"provider_id": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Return the keys of this provider ID only.",
				Validators:          []validator.String{providerIDCheck},
			},
			"keys": schema.ListNestedAttribute{
				Computed:            true,
				MarkdownDescription: "The keys by provider ID, then in the order in which Sim serves them.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"id":          schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the key."},
					"provider_id": schema.StringAttribute{Computed: true, MarkdownDescription: "AI provider that the key belongs to."},
					"name":        schema.StringAttribute{Computed: true, MarkdownDescription: "Label of the key, or null."},
					"masked_key":  schema.StringAttribute{Computed: true, MarkdownDescription: "What Sim shows of the secret."},
					"created_by":  schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the user who added the key, or null."},
					"created_at":  schema.StringAttribute{Computed: true, MarkdownDescription: "When the key was added (RFC 3339, UTC)."},
					"updated_at":  schema.StringAttribute{Computed: true, MarkdownDescription: "When the secret or the name was last written (RFC 3339, UTC)."},
					"import_id":   schema.StringAttribute{Computed: true, MarkdownDescription: "ID to import the key with: `WORKSPACE_ID/PROVIDER_ID/KEY_ID`."},
				}},
			},
			"pools": schema.MapNestedAttribute{
				Computed:            true,
				MarkdownDescription: "How full each pool is, by provider ID. A provider ID without keys is left out, unless `provider_id` asks for it.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"count":     schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of keys."},
					"remaining": schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of keys that can still be added."},
					"full":      schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether no key can be added."},
				}},
			},
		},
	}
}

func (d *keysDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	if o, ok := req.ProviderData.(*operation); ok {
		d.operation = o
	}
}

func (d *keysDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	call := d.operation.beginList()
	defer call.End()
	var model keysModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	model.WorkspaceID = workspaceOf(keyModel{WorkspaceID: model.WorkspaceID}, types.StringNull(), d.operation.workspaceID)
	switch {
	case model.WorkspaceID.IsNull():
		resp.Diagnostics.Append(missingWorkspaceDiagnostic())
		return
	case model.WorkspaceID.IsUnknown():
		resp.Diagnostics.Append(unknownConfigurationDiagnostic("list keys", []string{"workspace_id"}))
		return
	}
	api, diags := d.operation.client("list keys")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()

	scope := byok.WorkspaceScope(model.WorkspaceID.ValueString())
	keys, err := api.List(ctx, scope)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "read", keysRef{Scope: scope, ProviderID: model.ProviderID.ValueString()}))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, model.withKeys(keys, d.operation.cap))...)
}

// withKeys returns m with the stored keys that it asks for, and their pools.
func (m keysModel) withKeys(keys []byok.Key, limit int) keysModel {
	m.Keys, m.Pools = []listedKey{}, map[string]poolUsage{}
	counts := map[string]int{}
	if !m.ProviderID.IsNull() {
		counts[m.ProviderID.ValueString()] = 0
	}
	for _, key := range keys {
		if !m.ProviderID.IsNull() && m.ProviderID.ValueString() != key.ProviderID {
			continue
		}
		counts[key.ProviderID]++
		m.Keys = append(m.Keys, listedKey{
			ID: key.ID, ProviderID: key.ProviderID, Name: key.Name, MaskedKey: key.MaskedKey,
			CreatedBy: key.CreatedBy, CreatedAt: key.CreatedAt, UpdatedAt: key.UpdatedAt,
			ImportID: m.WorkspaceID.ValueString() + "/" + key.ProviderID + "/" + key.ID,
		})
	}
	for providerID, count := range counts {
		m.Pools[providerID] = poolUsage{Count: int64(count), Remaining: int64(max(0, limit-count)), Full: count >= limit}
	}
	return m
}
