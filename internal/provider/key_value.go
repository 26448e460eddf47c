package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// The models of byok_key move in and out of the framework's values by name
// here. Its reflection on structs does the same, but compiles a regular
// expression per field and call: BenchmarkNoopPlan takes a quarter longer.

// objectReader is a configuration, a plan or a state of the framework.
type objectReader interface {
	Get(ctx context.Context, target any) diag.Diagnostics
}

// read sets m to what from holds.
func (m *keyModel) read(ctx context.Context, from objectReader) diag.Diagnostics {
	var object types.Object
	if diags := from.Get(ctx, &object); diags.HasError() {
		return diags
	}
	values := object.Attributes()
	m.WorkspaceID = stringIn(values, "workspace_id")
	m.ProviderID = stringIn(values, "provider_id")
	m.Name = stringIn(values, "name")
	m.APIKey = stringIn(values, "api_key")
	m.APIKeyWO = stringIn(values, "api_key_wo")
	m.APIKeyWOVersion, _ = values["api_key_wo_version"].(types.Int64)
	m.OnRemoteChange = stringIn(values, "on_remote_change")
	m.ID = stringIn(values, "id")
	m.MaskedKey = stringIn(values, "masked_key")
	m.CreatedBy = stringIn(values, "created_by")
	m.CreatedAt = stringIn(values, "created_at")
	m.UpdatedAt = stringIn(values, "updated_at")
	m.Timeouts, _ = values["timeouts"].(timeouts.Value)
	return nil
}

// value is m as the framework's Set takes it.
func (m keyModel) value(ctx context.Context) types.Object {
	return objectOf(ctx, map[string]attr.Value{
		"workspace_id":       m.WorkspaceID,
		"provider_id":        m.ProviderID,
		"name":               m.Name,
		"api_key":            m.APIKey,
		"api_key_wo":         m.APIKeyWO,
		"api_key_wo_version": m.APIKeyWOVersion,
		"on_remote_change":   m.OnRemoteChange,
		"id":                 m.ID,
		"masked_key":         m.MaskedKey,
		"created_by":         m.CreatedBy,
		"created_at":         m.CreatedAt,
		"updated_at":         m.UpdatedAt,
		"timeouts":           m.Timeouts,
	})
}

// value is i as the framework's Set takes it.
func (i keyIdentity) value(ctx context.Context) types.Object {
	return objectOf(ctx, map[string]attr.Value{"workspace_id": i.WorkspaceID, "id": i.ID})
}

func stringIn(values map[string]attr.Value, name string) types.String {
	value, _ := values[name].(types.String)
	return value
}

func objectOf(ctx context.Context, values map[string]attr.Value) types.Object {
	kinds := make(map[string]attr.Type, len(values))
	for name, value := range values {
		kinds[name] = value.Type(ctx)
	}
	return types.ObjectValueMust(kinds, values) // kinds are those of values
}
