package provider

import (
	"context"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// poolKeyTable holds the attributes of an element of keys.
var poolKeyTable = newTable(slices.Concat(
	writeOnlyRows("A new key needs it.", func(m *poolKey) writeOnlyFields { return writeOnlyFields{&m.APIKeyWO, &m.APIKeyWOVersion} }),
	storedRows(func(m *poolKey) storedFields {
		return storedFields{&m.ID, &m.MaskedKey, &m.CreatedBy, &m.CreatedAt, &m.UpdatedAt}
	}),
	[]row[poolKey]{
		{
			name:  "name",
			role:  configurable,
			field: func(m *poolKey) any { return &m.Name },
			schema: schema.StringAttribute{
				Optional: true,
				Computed: true,
				MarkdownDescription: "Label of the key, up to 120 characters; need not be unique. Default: the map key. `\"\"` stands for a key without a name. " +
					"The API takes a new name only together with the secret.",
				Validators: []validator.String{nameCheck},
			},
		},
	},
))

// unmanagedKeyTable holds the attributes of an element of unmanaged.
var unmanagedKeyTable = newTable(append(
	storedRows(func(m *unmanagedKey) storedFields {
		return storedFields{maskedKey: &m.MaskedKey, createdBy: &m.CreatedBy, createdAt: &m.CreatedAt}
	}),
	row[unmanagedKey]{
		name:   "name",
		role:   computed,
		field:  func(m *unmanagedKey) any { return &m.Name },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "Label of the key, or null."},
	},
))

// poolTable holds the attributes of byok_pool. The map keys of keys are checked
// by mapKeyDiagnostics: a validator of the map would keep every configuration
// from the fast path.
var poolTable = newTable(append(scopeRows("pool", (*poolModel).scopeFields), []row[poolModel]{
	providerIDRow("pool", func(m *poolModel) *types.String { return &m.ProviderID }),
	onRemoteChangeRow(func(m *poolModel) *types.String { return &m.OnRemoteChange }),
	{
		name:     "keys",
		role:     configurable,
		field:    func(m *poolModel) any { return &m.Keys },
		elements: poolKeyTable.elements(),
		schema: schema.MapNestedAttribute{
			Required: true,
			MarkdownDescription: "The keys that this resource owns, at least one. The map key identifies a key within the resource and is the default of its name. " +
				"A new pool serves its keys in the order of the sorted map keys (`k10` before `k2`); keys that are added later come last.",
			NestedObject: poolKeyTable.object(),
		},
	},
	{
		name:  "exclusive",
		role:  configurable,
		field: func(m *poolModel) any { return &m.Exclusive },
		schema: schema.BoolAttribute{
			Optional: true,
			Computed: true,
			Default:  booldefault.StaticBool(false),
			MarkdownDescription: "Whether this resource owns the whole pool. `false` (default): other keys of the pool are left alone, and count towards its cap. " +
				"`true`: an update removes them, and its plan shows each of them in `unmanaged`. A create and a destroy leave them alone.",
		},
	},
	{
		name:     "unmanaged",
		role:     computed,
		field:    func(m *poolModel) any { return &m.Unmanaged },
		elements: unmanagedKeyTable.elements(),
		schema: schema.MapNestedAttribute{
			Computed:            true,
			MarkdownDescription: "The other keys of the pool by key ID, as last read. The plan of an exclusive pool shows here which of them it removes.",
			NestedObject:        unmanagedKeyTable.object(),
		},
	},
	{
		name:  "timeouts",
		role:  configurable,
		field: func(m *poolModel) any { return &m.Timeouts },
		block: timeoutsBlock(context.Background(), timeouts.Opts{
			Create: true, Read: true, Update: true, Delete: true,
			CreateDescription: "How long adding all keys may take, as a duration such as `30s` or `5m`. Default: `20m`.",
			ReadDescription:   "How long reading the pool may take. Default: `20m`.",
			UpdateDescription: "How long all changes to the pool may take. Default: `20m`.",
			DeleteDescription: "How long deleting all keys may take. Default: `20m`.",
		}),
	},
}...))
