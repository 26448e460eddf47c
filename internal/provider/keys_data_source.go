package provider

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

var _ datasource.DataSourceWithConfigure = (*keysDataSource)(nil)

// keysDataSource is byok_keys: the stored keys of a workspace or an organization.
type keysDataSource struct{ configuredDataSource }

func newKeysDataSource() datasource.DataSource {
	return &keysDataSource{configuredDataSource{&operation{}}}
}

type keysModel struct {
	WorkspaceID    types.String         `tfsdk:"workspace_id"`
	OrganizationID types.String         `tfsdk:"organization_id"`
	ProviderID     types.String         `tfsdk:"provider_id"`
	Keys           []listedKey          `tfsdk:"keys"`
	Pools          map[string]poolUsage `tfsdk:"pools"`
}

func (m *keysModel) scopeFields() scopeFields {
	return scopeFields{byok.Workspace: &m.WorkspaceID, byok.Organization: &m.OrganizationID}
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
	Count            int64    `tfsdk:"count"`
	Remaining        int64    `tfsdk:"remaining"`
	Full             bool     `tfsdk:"full"`
	OldestAgeDays    *int64   `tfsdk:"oldest_age_days"`
	UndecryptableIDs []string `tfsdk:"undecryptable_ids"`
	RepeatedNames    []string `tfsdk:"repeated_names"`
	EffectiveScope   string   `tfsdk:"effective_scope"`
}

// effectiveNone is the effective scope of a pool that serves no keys.
const effectiveNone = "none"

func (d *keysDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_keys"
}

func (d *keysDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists all keys that a Sim workspace or organization stores, without their secrets, and the state of their pools. Requires read permission on the workspace, or the role of admin or owner in the organization.",
		Attributes: map[string]schema.Attribute{
			"workspace_id": schema.StringAttribute{
				Optional:            true,
				Computed:            true,
				MarkdownDescription: "ID of the workspace. Default: `workspace_id` of the provider.",
				Validators:          []validator.String{idChecks[byok.Workspace]},
			},
			"organization_id": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "ID of the organization, to list the keys that its workspaces inherit. Conflicts with `workspace_id`, and has no default.",
				Validators:          []validator.String{idChecks[byok.Organization], stringvalidator.ConflictsWith(path.MatchRoot("workspace_id"))},
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
					"import_id":   schema.StringAttribute{Computed: true, MarkdownDescription: "ID to import the key with: `WORKSPACE_ID/PROVIDER_ID/KEY_ID`, or `organization/ORGANIZATION_ID/PROVIDER_ID/KEY_ID`."},
				}},
			},
			"pools": schema.MapNestedAttribute{
				Computed:            true,
				MarkdownDescription: "The state of each pool, by provider ID. A provider ID without keys is left out, unless `provider_id` asks for it.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"count":             schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of keys."},
					"remaining":         schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of keys that can still be added."},
					"full":              schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether no key can be added."},
					"oldest_age_days":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Whole days since the key that was written longest ago was last written, or null for an empty pool. Replacing a secret and renaming a key both count as writing."},
					"undecryptable_ids": schema.ListAttribute{ElementType: types.StringType, Computed: true, MarkdownDescription: "IDs of the keys that Sim shows as eight bullets: it cannot decrypt them, or their secret has up to 8 characters."},
					"repeated_names":    schema.ListAttribute{ElementType: types.StringType, Computed: true, MarkdownDescription: "Names that more than one key of the pool has, sorted."},
					"effective_scope":   schema.StringAttribute{Computed: true, MarkdownDescription: "Where a run takes its keys of this provider ID from: `workspace`, `organization` (the workspace has none and inherits the organization's), or `none`."},
				}},
			},
		},
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
	ids := planScope(model.scopeFields().values(), scopeIDs{}, d.operation.workspaceID)
	model.scopeFields().set(ids)
	scope, known := ids.scope()
	switch {
	case ids.isNull():
		resp.Diagnostics.Append(missingScopeDiagnostic())
		return
	case !known:
		resp.Diagnostics.Append(unknownConfigurationDiagnostic("list keys", []string{"workspace_id"}))
		return
	}
	api, diags := d.operation.client("list keys")
	if resp.Diagnostics.Append(diags...); diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()

	keys, err := api.List(ctx, scope)
	if err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "read", keysRef{Scope: scope, ProviderID: model.ProviderID.ValueString()}))
		return
	}
	model = model.withKeys(keys, scope, d.operation.cap, time.Now())
	if err := model.addInherited(ctx, api, scope); err != nil {
		resp.Diagnostics.Append(clientDiagnostic(err, "read", inheritedRef(scope)))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, model)...)
}

// addInherited finds out where empty pools take their keys from. It costs a
// request only where a pool is empty.
func (m keysModel) addInherited(ctx context.Context, api *client.Client, scope byok.Scope) error {
	if !scopeKinds[scope.Kind].inherits {
		return nil
	}
	for providerID, pool := range m.Pools {
		if pool.Count > 0 {
			continue
		}
		inherited, err := api.Inherited(ctx, scope)
		var failed *client.Error
		if errors.As(err, &failed) && failed.Status == http.StatusNotFound && failed.Kind == client.KindProtocol {
			return nil // a Sim without organization keys
		}
		if err != nil {
			return err
		}
		if slices.Contains(inherited, providerID) {
			pool.EffectiveScope = byok.Organization.String()
			m.Pools[providerID] = pool
		}
	}
	return nil
}

// withKeys returns m with the stored keys that it asks for, and their pools.
func (m keysModel) withKeys(keys []byok.Key, scope byok.Scope, limit int, now time.Time) keysModel {
	m.Keys, m.Pools = []listedKey{}, map[string]poolUsage{}
	pools := map[string][]byok.Key{}
	if !m.ProviderID.IsNull() {
		pools[m.ProviderID.ValueString()] = nil
	}
	for _, key := range keys {
		if !m.ProviderID.IsNull() && m.ProviderID.ValueString() != key.ProviderID {
			continue
		}
		pools[key.ProviderID] = append(pools[key.ProviderID], key)
		m.Keys = append(m.Keys, listedKey{
			ID: key.ID, ProviderID: key.ProviderID, Name: key.Name, MaskedKey: key.MaskedKey,
			CreatedBy: key.CreatedBy, CreatedAt: key.CreatedAt, UpdatedAt: key.UpdatedAt,
			ImportID: byok.Pool{Scope: scope, ProviderID: key.ProviderID}.String() + "/" + key.ID,
		})
	}
	for providerID, stored := range pools {
		m.Pools[providerID] = usageOf(stored, scope, limit, now)
	}
	return m
}

// usageOf describes one pool by its keys.
func usageOf(keys []byok.Key, scope byok.Scope, limit int, now time.Time) poolUsage {
	p := poolUsage{
		Count: int64(len(keys)), Remaining: int64(max(0, limit-len(keys))), Full: len(keys) >= limit,
		UndecryptableIDs: []string{}, RepeatedNames: []string{}, EffectiveScope: effectiveNone,
	}
	names := map[string]int{}
	for _, key := range keys {
		p.EffectiveScope = scope.Kind.String()
		if key.MaskedKey == byok.MaskUnknown {
			p.UndecryptableIDs = append(p.UndecryptableIDs, key.ID)
		}
		if key.Name != nil {
			if names[*key.Name]++; names[*key.Name] == 2 {
				p.RepeatedNames = append(p.RepeatedNames, *key.Name)
			}
		}
		at, err := time.Parse(time.RFC3339, key.UpdatedAt)
		if days := int64(now.Sub(at) / (24 * time.Hour)); err == nil && (p.OldestAgeDays == nil || days > *p.OldestAgeDays) {
			days = max(0, days) // clocks differ
			p.OldestAgeDays = &days
		}
	}
	slices.Sort(p.RepeatedNames)
	return p
}
