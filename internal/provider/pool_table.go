package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// poolKeyTable holds the attributes of an element of keys.
var poolKeyTable = newTable([]row[poolKey]{
	{
		name:  "api_key_wo",
		role:  secret,
		field: func(m *poolKey) any { return &m.APIKeyWO },
		schema: schema.StringAttribute{
			Optional:  true,
			WriteOnly: true,
			Sensitive: true, // for the reason that keyTable gives
			MarkdownDescription: "Secret of the key, write-only: never in state or plan, and may come from an ephemeral resource. A new key needs it. " +
				"Without `api_key_wo_version`, a salted hash of it is kept in private state, and a changed value replaces the secret in place.",
			Validators: []validator.String{apiKeyCheck},
		},
	},
	{
		name:  "api_key_wo_version",
		role:  configurable,
		field: func(m *poolKey) any { return &m.APIKeyWOVersion },
		schema: schema.Int64Attribute{
			Optional: true,
			MarkdownDescription: "Version of `api_key_wo`, at least 1. When set, a change of it, and nothing else, uploads `api_key_wo`, and nothing derived from the value is stored. " +
				"Needed for a value that differs from run to run, or between plan and apply.",
			Validators: []validator.Int64{ownValueInt64{int64validator.AtLeast(1)}},
		},
	},
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
	{
		name:   "id",
		role:   computed,
		field:  func(m *poolKey) any { return &m.ID },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the key. Stays the same when the secret or the name changes."},
	},
	{
		name:   "masked_key",
		role:   computed,
		field:  func(m *poolKey) any { return &m.MaskedKey },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "What Sim shows of the secret, such as `sk-pro...7Qz3`. Eight bullets for a secret of up to 8 characters, and for one that the server cannot decrypt."},
	},
	{
		name:   "created_by",
		role:   computed,
		field:  func(m *poolKey) any { return &m.CreatedBy },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the user who added the key, if Sim still knows."},
	},
	{
		name:   "created_at",
		role:   computed,
		field:  func(m *poolKey) any { return &m.CreatedAt },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "When the key was added (RFC 3339, UTC). It decides the place in the rotation."},
	},
	{
		name:   "updated_at",
		role:   computed,
		field:  func(m *poolKey) any { return &m.UpdatedAt },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "When the secret or the name was last written (RFC 3339, UTC)."},
	},
})

// unmanagedKeyTable holds the attributes of an element of unmanaged.
var unmanagedKeyTable = newTable([]row[unmanagedKey]{
	{
		name:   "name",
		role:   computed,
		field:  func(m *unmanagedKey) any { return &m.Name },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "Label of the key, or null."},
	},
	{
		name:   "masked_key",
		role:   computed,
		field:  func(m *unmanagedKey) any { return &m.MaskedKey },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "What Sim shows of the secret."},
	},
	{
		name:   "created_by",
		role:   computed,
		field:  func(m *unmanagedKey) any { return &m.CreatedBy },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the user who added the key, or null."},
	},
	{
		name:   "created_at",
		role:   computed,
		field:  func(m *unmanagedKey) any { return &m.CreatedAt },
		schema: schema.StringAttribute{Computed: true, MarkdownDescription: "When the key was added (RFC 3339, UTC)."},
	},
})

// poolTable holds the attributes of byok_pool. The map keys of keys are checked
// by mapKeyDiagnostics: a validator of the map would keep every configuration
// from the fast path.
var poolTable = newTable([]row[poolModel]{
	{
		name:  "workspace_id",
		role:  placing,
		field: func(m *poolModel) any { return &m.WorkspaceID },
		schema: schema.StringAttribute{
			Optional:            true,
			Computed:            true,
			MarkdownDescription: "ID of the workspace. Default: `workspace_id` of the provider. A change replaces the pool.",
			Validators:          []validator.String{idChecks[byok.Workspace]},
		},
	},
	{
		name:  "provider_id",
		role:  placing,
		field: func(m *poolModel) any { return &m.ProviderID },
		schema: schema.StringAttribute{
			Required:            true,
			MarkdownDescription: "AI provider that the keys belong to, such as `openai` or `anthropic`. Unrecognized IDs produce a warning, because newer servers may support more providers. A change replaces the pool.",
			Validators:          []validator.String{providerIDCheck},
		},
	},
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
		name:  "on_remote_change",
		role:  configurable,
		field: func(m *poolModel) any { return &m.OnRemoteChange },
		schema: schema.StringAttribute{
			Optional: true,
			Computed: true,
			Default:  stringdefault.StaticString(onRemoteChangeRepair),
			MarkdownDescription: "What a plan does about a key that another user has replaced or renamed: `repair` (default) warns and puts the declared secret and name back, `warn` only warns. " +
				"A key that was deleted is planned for creation in either case.",
			Validators: []validator.String{ownValueString{stringvalidator.OneOf(onRemoteChanges...)}},
		},
	},
	{
		name:  "timeouts",
		role:  configurable,
		field: func(m *poolModel) any { return &m.Timeouts },
		block: timeouts.Block(context.Background(), timeouts.Opts{
			Create: true, Read: true, Update: true, Delete: true,
			CreateDescription: "How long adding all keys may take, as a duration such as `30s` or `5m`. Default: `20m`.",
			ReadDescription:   "How long reading the pool may take. Default: `20m`.",
			UpdateDescription: "How long all changes to the pool may take. Default: `20m`.",
			DeleteDescription: "How long deleting all keys may take. Default: `20m`.",
		}),
	},
})
