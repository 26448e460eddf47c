package provider

import (
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// The values of on_remote_change.
const (
	onRemoteChangeRepair = "repair"
	onRemoteChangeWarn   = "warn"
)

var onRemoteChanges = []string{onRemoteChangeRepair, onRemoteChangeWarn}

// planCreate returns what the plan shows of a key to be created. Every
// attribute that only the API can tell is unknown already.
func planCreate(config, proposed keyModel, defaultWorkspaceID types.String) keyModel {
	planned := proposed
	planned.WorkspaceID = workspaceOf(config, types.StringNull(), defaultWorkspaceID)
	planned.APIKey = config.APIKey
	keyTable.setUnknown(&planned, computed)
	return planned
}

// updatePlan is what a plan does with a key that exists.
type updatePlan struct {
	planned keyModel
	// replacedBy names the attributes that ask for a replace.
	replacedBy []string
	// upload says that an apply sends the secret and the name.
	upload bool
	drift  drift
}

// replaces reports whether the key makes way for another one.
func (p updatePlan) replaces() bool { return len(p.replacedBy) > 0 }

// planUpdate decides what happens to a key that exists. It is pure, so that
// the plan, the second look at the start of the apply, and the apply itself
// come to the same end from the same values, and so that it can be tested
// alone.
func planUpdate(config, proposed, prior keyModel, record keyRecord, defaultWorkspaceID types.String) updatePlan {
	p := updatePlan{planned: proposed, drift: driftOf(prior, record)}
	planned := &p.planned

	planned.WorkspaceID = workspaceOf(config, prior.WorkspaceID, defaultWorkspaceID)
	p.replacedBy = keyTable.different(planned, &prior, placing)
	keyTable.copy(planned, &prior, computed)
	planned.APIKey = apiKeyOf(config, prior)
	// Terraform accepts the prior value in place of a configured one that
	// means the same, as long as neither is null.
	if !config.Name.IsNull() && !config.Name.IsUnknown() && !prior.Name.IsNull() && sameName(config.Name, prior.Name) {
		planned.Name = prior.Name
	}

	p.upload = needsUpload(config, prior, record, p.drift)
	if p.upload || dependsOnWriteOnly(config, prior) && p.changesState(prior) {
		planned.MaskedKey = types.StringUnknown()
		planned.UpdatedAt = types.StringUnknown()
	}
	return p
}

// changesState reports whether the plan differs from the state in anything
// that the user configures.
func (p updatePlan) changesState(prior keyModel) bool {
	return keyTable.differs(&p.planned, &prior, configurable, secret)
}

// needsUpload reports whether an apply has to send the key. What is not known
// yet counts as a reason; so does drift, if it is to be repaired. Without a
// declared secret there is nothing to send.
func needsUpload(config, prior keyModel, record keyRecord, d drift) bool {
	if config.secret().IsNull() {
		return false
	}
	return renames(config, prior, record) ||
		changesSecret(config, prior, record) ||
		d.replaced && config.OnRemoteChange.ValueString() != onRemoteChangeWarn
}

// renames reports whether the API has to store another name. A name given
// elsewhere and kept out of state can be taken over without telling the API.
func renames(config, prior keyModel, record keyRecord) bool {
	return config.Name.IsUnknown() || !sameName(config.Name, prior.Name) &&
		(record.RenamedTo == nil || !sameName(config.Name, types.StringPointerValue(record.RenamedTo)))
}

// changesSecret reports whether the declared secret is, or may be, another one
// than the provider uploaded last.
func changesSecret(config, prior keyModel, record keyRecord) bool {
	secret := config.secret()
	switch {
	case secret.IsNull():
		return false
	case secret.IsUnknown():
		// With a version, the version alone decides.
		return !config.APIKey.IsNull() || config.APIKeyWOVersion.IsNull() || changesVersion(config, prior)
	case record.Unconfirmed:
		return true
	case !config.APIKey.IsNull() && !prior.APIKey.IsNull():
		return !config.APIKey.Equal(prior.APIKey)
	case record.Adopted || record.absent():
		return !showsMaskOf(prior, secret)
	case !config.APIKey.IsNull():
		return true // from api_key_wo to api_key
	case changesVersion(config, prior):
		return true
	case config.APIKeyWOVersion.IsNull():
		return !record.recognises(secret)
	}
	return false
}

// changesVersion reports whether api_key_wo_version differs from that of the
// last apply. Set and unset differ too.
func changesVersion(config, prior keyModel) bool {
	return !config.APIKeyWOVersion.Equal(prior.APIKeyWOVersion)
}

// showsMaskOf reports whether the stored key shows the mask of secret. Eight
// bullets show nothing.
func showsMaskOf(stored keyModel, secret types.String) bool {
	return stored.MaskedKey.ValueString() != byok.MaskUnknown &&
		stored.MaskedKey.ValueString() == byok.Mask(secret.ValueString())
}

// dependsOnWriteOnly reports whether the decision to upload rests on a
// write-only value. It may be another one at apply, so that an update must not
// promise what follows from the one at plan.
func dependsOnWriteOnly(config, prior keyModel) bool {
	return !config.APIKeyWO.IsNull() && (config.APIKeyWOVersion.IsNull() || changesVersion(config, prior))
}

// apiKeyOf plans api_key. A configuration that declares no secret at all, as
// in a pipeline that must not know it, leaves the one in state alone.
func apiKeyOf(config, prior keyModel) types.String {
	switch {
	case !config.APIKey.IsNull():
		return config.APIKey
	case config.APIKeyWO.IsNull():
		return prior.APIKey
	case config.APIKeyWO.IsUnknown() && !prior.APIKey.IsNull():
		return types.StringUnknown()
	}
	return types.StringNull()
}

// workspaceOf plans workspace_id: as configured, else the provider's, else as
// it is. An unknown default is not yet a reason to move a key that exists.
func workspaceOf(config keyModel, prior, defaultWorkspaceID types.String) types.String {
	switch {
	case !config.WorkspaceID.IsNull():
		return config.WorkspaceID
	case !prior.IsNull() && (defaultWorkspaceID.IsNull() || defaultWorkspaceID.IsUnknown()):
		return prior
	}
	return defaultWorkspaceID
}

// drift is what somebody else did to a key since the provider's last write.
type drift struct {
	// replaced: the key was written elsewhere, which always takes a secret,
	// though perhaps the same one. WIRE.md section 5.
	replaced bool
	// renamedTo is a new name that state does not show.
	renamedTo *string
	// undecryptable: the masked key was readable and is not any more.
	undecryptable bool
}

// driftOf compares a refreshed state with the record of the last write.
func driftOf(state keyModel, record keyRecord) drift {
	if record.absent() {
		return drift{}
	}
	masked := state.MaskedKey.ValueString()
	moved := record.UpdatedAt != "" && state.UpdatedAt.ValueString() != record.UpdatedAt
	// Eight bullets on either side cannot be told from any other secret.
	remasked := masked != record.MaskedKey && masked != byok.MaskUnknown && record.MaskedKey != byok.MaskUnknown
	return drift{
		replaced:      moved || remasked,
		renamedTo:     record.RenamedTo,
		undecryptable: !moved && masked == byok.MaskUnknown && record.MaskedKey != byok.MaskUnknown,
	}
}
