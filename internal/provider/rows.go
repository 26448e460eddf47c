package provider

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// The rows of attributes that several tables have. fields and field return the
// fields of a model.

// providerIDRow is the row of provider_id. noun is what belongs to an AI provider.
func providerIDRow[M any](noun string, field func(*M) *types.String) row[M] {
	return row[M]{
		name:  "provider_id",
		role:  placing,
		field: func(m *M) any { return field(m) },
		schema: schema.StringAttribute{
			Required: true,
			MarkdownDescription: fmt.Sprintf("AI provider that the %s belongs to, such as `openai` or `anthropic`. "+
				"Unrecognized IDs produce a warning, because newer servers may support more providers. A change replaces the %[1]s.", noun),
			Validators: []validator.String{providerIDCheck},
		},
	}
}

// onRemoteChangeRow is the row of on_remote_change.
func onRemoteChangeRow[M any](field func(*M) *types.String) row[M] {
	return row[M]{
		name:  "on_remote_change",
		role:  configurable,
		field: func(m *M) any { return field(m) },
		schema: schema.StringAttribute{
			Optional: true,
			Computed: true,
			Default:  stringdefault.StaticString(onRemoteChangeRepair),
			MarkdownDescription: "What a plan does about a key that another user has replaced or renamed: `repair` (default) warns and puts the declared secret and name back, `warn` only warns. " +
				"A key that was deleted is planned for creation in either case.",
			Validators: []validator.String{ownValueString{stringvalidator.OneOf(onRemoteChanges...)}},
		},
	}
}

// writeOnlyFields are the fields of a secret that is never stored.
type writeOnlyFields struct {
	apiKeyWO *types.String
	version  *types.Int64
}

// writeOnlyRows are the rows of api_key_wo and its version. note is what else
// there is to say about api_key_wo.
func writeOnlyRows[M any](note string, fields func(*M) writeOnlyFields) []row[M] {
	return []row[M]{
		{
			name:  "api_key_wo",
			role:  secret,
			field: func(m *M) any { return fields(m).apiKeyWO },
			schema: schema.StringAttribute{
				Optional:  true,
				WriteOnly: true,
				// No plan or state ever shows it. But Terraform takes it for an
				// update when a value becomes sensitive, as one does that is
				// imported and then set from a sensitive variable.
				Sensitive: true,
				MarkdownDescription: "Secret of the key, write-only: never in state or plan, and may come from an ephemeral resource. " + note +
					" Without `api_key_wo_version`, a salted hash of it is kept in private state, and a changed value replaces the secret in place.",
				Validators: []validator.String{apiKeyCheck},
			},
		},
		{
			name:  "api_key_wo_version",
			role:  configurable,
			field: func(m *M) any { return fields(m).version },
			schema: schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "Version of `api_key_wo`, at least 1. When set, a change of it, and nothing else, uploads `api_key_wo`, and nothing derived from the value is stored. " +
					"Needed for a value that differs from run to run, or between plan and apply.",
				Validators: []validator.Int64{ownValueInt64{int64validator.AtLeast(1)}},
			},
		},
	}
}

// storedFields are the fields of what Sim shows of a stored key. id and
// updatedAt are nil in a model that has neither.
type storedFields struct{ id, maskedKey, createdBy, createdAt, updatedAt *types.String }

// storedRows are the rows of what Sim shows of a stored key.
func storedRows[M any](fields func(*M) storedFields) (rows []row[M]) {
	for _, of := range []struct {
		name, description string
		field             func(storedFields) *types.String
	}{
		{"id", "ID of the key. Stays the same when the secret or the name changes.", func(f storedFields) *types.String { return f.id }},
		{
			"masked_key", "What Sim shows of the secret, such as `sk-pro...7Qz3`. Sim shows eight bullets for a secret of up to 8 characters, and for one that the server cannot decrypt.",
			func(f storedFields) *types.String { return f.maskedKey },
		},
		{"created_by", "ID of the user who added the key, if Sim still knows.", func(f storedFields) *types.String { return f.createdBy }},
		{"created_at", "When the key was added (RFC 3339, UTC). It decides the place in the rotation.", func(f storedFields) *types.String { return f.createdAt }},
		{"updated_at", "When the secret or the name was last written (RFC 3339, UTC).", func(f storedFields) *types.String { return f.updatedAt }},
	} {
		if of.field(fields(new(M))) == nil {
			continue
		}
		rows = append(rows, row[M]{
			name:   of.name,
			role:   computed,
			field:  func(m *M) any { return of.field(fields(m)) },
			schema: schema.StringAttribute{Computed: true, MarkdownDescription: of.description},
		})
	}
	return rows
}
