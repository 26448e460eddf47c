package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// keyTable holds the attributes of byok_key. A new one is a row here, a field
// of keyModel, and its documentation. Validators are marked as the fast path
// needs it: ownValueString, ownValueInt64, whenSet.
var keyTable = newTable(append(scopeRows("key", (*keyModel).scopeFields), []row[keyModel]{
	{
		name:  "provider_id",
		role:  placing,
		field: func(m *keyModel) any { return &m.ProviderID },
		schema: schema.StringAttribute{
			Required:            true,
			MarkdownDescription: "AI provider that the key belongs to, such as `openai` or `anthropic`. An ID that this version does not know is a warning, for servers learn new ones. A change replaces the key.",
			Validators:          []validator.String{providerIDCheck},
		},
	},
	{
		name:  "name",
		role:  configurable,
		field: func(m *keyModel) any { return &m.Name },
		schema: schema.StringAttribute{
			Optional:            true,
			MarkdownDescription: "Label of the key, up to 120 characters; need not be unique. White space at both ends does not count, and a blank name is none. The API takes a new name only together with the secret.",
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
				"Once removed from the configuration, the stored key and the value in state stay as they are; a change to `api_key_wo` removes it from state.",
			Validators: []validator.String{
				apiKeyCheck,
				whenSet{stringvalidator.ConflictsWith(path.MatchRoot("api_key_wo"), path.MatchRoot("api_key_wo_version"))},
				whenSet{stringvalidator.PreferWriteOnlyAttribute(path.MatchRoot("api_key_wo"))},
			},
		},
	},
	{
		name:  "api_key_wo",
		role:  secret,
		field: func(m *keyModel) any { return &m.APIKeyWO },
		schema: schema.StringAttribute{
			Optional:  true,
			WriteOnly: true,
			// No plan or state ever shows it. But Terraform takes it for an
			// update when a value becomes sensitive, as one does that is
			// imported and then set from a sensitive variable.
			Sensitive: true,
			MarkdownDescription: "Secret of the key, write-only: never in state or plan, and may come from an ephemeral resource. Conflicts with `api_key`. " +
				"Without `api_key_wo_version`, a salted hash of it is kept in private state, and a changed value replaces the secret in place.",
			Validators: []validator.String{apiKeyCheck},
		},
	},
	{
		name:  "api_key_wo_version",
		role:  configurable,
		field: func(m *keyModel) any { return &m.APIKeyWOVersion },
		schema: schema.Int64Attribute{
			Optional: true,
			MarkdownDescription: "Version of `api_key_wo`, at least 1. When set, a change of it, and nothing else, uploads `api_key_wo`, and nothing derived from the value is stored. " +
				"Needed for a value that differs from run to run.",
			Validators: []validator.Int64{ownValueInt64{int64validator.AtLeast(1)}},
		},
	},
	{
		name:  "on_remote_change",
		role:  configurable,
		field: func(m *keyModel) any { return &m.OnRemoteChange },
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
		name:  "id",
		role:  computed,
		field: func(m *keyModel) any { return &m.ID },
		schema: schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "ID of the key. Stays the same when the secret or the name changes.",
		},
	},
	{
		name:  "masked_key",
		role:  computed,
		field: func(m *keyModel) any { return &m.MaskedKey },
		schema: schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "What Sim shows of the secret, such as `sk-pro...7Qz3`. Eight bullets for a secret of up to 8 characters, and for one that the server cannot decrypt.",
		},
	},
	{
		name:  "created_by",
		role:  computed,
		field: func(m *keyModel) any { return &m.CreatedBy },
		schema: schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "ID of the user who added the key, if Sim still knows.",
		},
	},
	{
		name:  "created_at",
		role:  computed,
		field: func(m *keyModel) any { return &m.CreatedAt },
		schema: schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "When the key was added (RFC 3339, UTC). It decides the place in the rotation.",
		},
	},
	{
		name:  "updated_at",
		role:  computed,
		field: func(m *keyModel) any { return &m.UpdatedAt },
		schema: schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "When the secret or the name was last written (RFC 3339, UTC).",
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
}...))
