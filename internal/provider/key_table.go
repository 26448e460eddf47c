package provider

import (
	"context"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// keyTable holds the attributes of byok_key. A new one is a row here, a field
// of keyModel, and its documentation. Validators are marked as the fast path
// needs it: ownValueString, ownValueInt64, whenSet.
var keyTable = newTable(slices.Concat(
	scopeRows("key", (*keyModel).scopeFields),
	writeOnlyRows("Conflicts with `api_key`.", func(m *keyModel) writeOnlyFields { return writeOnlyFields{&m.APIKeyWO, &m.APIKeyWOVersion} }),
	storedRows(func(m *keyModel) storedFields {
		return storedFields{&m.ID, &m.MaskedKey, &m.CreatedBy, &m.CreatedAt, &m.UpdatedAt}
	}),
	[]row[keyModel]{
		providerIDRow("key", func(m *keyModel) *types.String { return &m.ProviderID }),
		onRemoteChangeRow(func(m *keyModel) *types.String { return &m.OnRemoteChange }),
		{
			name:  "name",
			role:  configurable,
			field: func(m *keyModel) any { return &m.Name },
			schema: schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Label of the key, up to 120 characters; need not be unique. Leading and trailing whitespace is ignored; a blank name is treated as unset. The API takes a new name only together with the secret.",
				Validators:          []validator.String{nameCheck},
			},
		},
		{
			name:  "api_key",
			role:  secret,
			field: func(m *keyModel) any { return &m.APIKey },
			schema: schema.StringAttribute{
				Optional: true,
				// Computed, so that a configuration that leaves the secret
				// out plans nothing; it is never anything but what a
				// configuration once said.
				Computed:  true,
				Sensitive: true,
				MarkdownDescription: "Secret of the key. Stored in state and in plans in plain text: prefer `api_key_wo`. Conflicts with `api_key_wo`. " +
					"A key that is to be created needs one of the two. A change replaces the secret in place. " +
					"If you remove the argument and set no other secret, the key in Sim does not change, and the value stays in state. If you replace the argument with `api_key_wo`, the next apply removes the value from state.",
				Validators: []validator.String{
					apiKeyCheck,
					whenSet{stringvalidator.ConflictsWith(path.MatchRoot("api_key_wo"), path.MatchRoot("api_key_wo_version"))},
					whenSet{stringvalidator.PreferWriteOnlyAttribute(path.MatchRoot("api_key_wo"))},
				},
			},
		},
		{
			name:  "timeouts",
			role:  configurable,
			field: func(m *keyModel) any { return &m.Timeouts },
			block: timeoutsBlock(context.Background(), timeouts.Opts{
				Create: true, Read: true, Update: true, Delete: true,
				CreateDescription: "How long adding the key may take, as a duration such as `30s` or `5m`. In a full pool, this includes waiting for keys that the same apply deletes. Default: `2m`.",
				ReadDescription:   "How long reading the key may take. Default: `2m`.",
				UpdateDescription: "How long replacing the secret or the name may take. Default: `2m`.",
				DeleteDescription: "How long deleting the key may take. Default: `2m`.",
			}),
		},
	},
))
