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
	for name, value := range object.Attributes() {
		switch value := value.(type) {
		case types.String:
			if text := m.text(name); text != nil {
				*text = value
			}
		case types.Int64:
			if name == "api_key_wo_version" {
				m.APIKeyWOVersion = value
			}
		case timeouts.Value:
			m.Timeouts = value
		}
	}
	return nil
}

// keyAttributes are the attributes of byok_key and its block, sorted.
var keyAttributes = []string{
	"api_key", "api_key_wo", "api_key_wo_version", "created_at", "created_by", "id", "masked_key", "name",
	"on_remote_change", "provider_id", "timeouts", "updated_at", "workspace_id",
}

// text is the field of an attribute, or nil where that is not a text.
func (m *keyModel) text(name string) *types.String {
	switch name {
	case "workspace_id":
		return &m.WorkspaceID
	case "provider_id":
		return &m.ProviderID
	case "name":
		return &m.Name
	case "api_key":
		return &m.APIKey
	case "api_key_wo":
		return &m.APIKeyWO
	case "on_remote_change":
		return &m.OnRemoteChange
	case "id":
		return &m.ID
	case "masked_key":
		return &m.MaskedKey
	case "created_by":
		return &m.CreatedBy
	case "created_at":
		return &m.CreatedAt
	case "updated_at":
		return &m.UpdatedAt
	}
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

func objectOf(ctx context.Context, values map[string]attr.Value) types.Object {
	kinds := make(map[string]attr.Type, len(values))
	for name, value := range values {
		kinds[name] = value.Type(ctx)
	}
	return types.ObjectValueMust(kinds, values) // kinds are those of values
}
