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

// planCreate returns what the plan shows for a new key. In proposed, every
// attribute that the API sets is already unknown.
func planCreate(config, proposed keyModel, defaultWorkspaceID types.String) keyModel {
	planned := proposed
	planned.scopeFields().set(planScope(config.scopeFields().values(), scopeIDs{}, defaultWorkspaceID))
	planned.APIKey = config.APIKey
	keyTable.setUnknown(&planned, computed)
	return planned
}

// updatePlan is what a plan does with a key that exists.
type updatePlan struct {
	planned keyModel
	// replacedBy contains the attributes that require a replace.
	replacedBy []string
	// upload means that an apply sends the secret and the name.
	upload bool
	drift  drift
}

// replaces reports whether the key is replaced by another one.
func (p updatePlan) replaces() bool { return len(p.replacedBy) > 0 }

// planUpdate decides what happens to a key that exists. It is pure: the plan,
// the planning call of the apply, and the update itself get the same result from
// the same values.
func planUpdate(config, proposed, prior keyModel, record keyRecord, defaultWorkspaceID types.String) updatePlan {
	p := updatePlan{planned: proposed}
	p.complete(&config, &prior, record, defaultWorkspaceID)
	return p
}

// complete makes the proposed state in p.planned the planned one, and decides
// about the rest.
func (p *updatePlan) complete(config, prior *keyModel, record keyRecord, defaultWorkspaceID types.String) {
	p.drift = driftOf(*prior, record)
	planned := &p.planned

	planned.scopeFields().set(planScope(config.scopeFields().values(), prior.scopeFields().values(), defaultWorkspaceID))
	p.replacedBy = keyTable.different(planned, prior, placing)
	keyTable.copy(planned, prior, computed)
	planned.APIKey = apiKeyOf(*config, *prior)
	// Terraform accepts the prior value in place of a configured one that
	// means the same, as long as neither is null.
	if !config.Name.IsNull() && !config.Name.IsUnknown() && !prior.Name.IsNull() && sameName(config.Name, prior.Name) {
		planned.Name = prior.Name
	}

	p.upload = needsUpload(*config, *prior, record, p.drift)
	if p.upload || dependsOnWriteOnly(*config, *prior) && p.changesState(prior) {
		planned.MaskedKey = types.StringUnknown()
		planned.UpdatedAt = types.StringUnknown()
	}
}

// changesState reports whether the plan differs from the state in anything
// that the user configures.
func (p *updatePlan) changesState(prior *keyModel) bool {
	return keyTable.differs(&p.planned, prior, configurable, secret)
}

// needsUpload reports whether an apply has to send the key. An unknown value is
// a reason to, and so is drift that is to be repaired. Without a declared secret
// there is nothing to send.
func needsUpload(config, prior keyModel, record keyRecord, d drift) bool {
	if config.secret().IsNull() {
		return false
	}
	return renames(config, prior, record) ||
		changesSecret(config, prior, record) ||
		d.replaced && config.OnRemoteChange.ValueString() != onRemoteChangeWarn
}

// renames reports whether the API has to store another name. It already stores
// one that another user gave and that is kept out of state.
func renames(config, prior keyModel, record keyRecord) bool {
	return config.Name.IsUnknown() || !sameName(config.Name, prior.Name) &&
		(record.RenamedTo == nil || !sameName(config.Name, types.StringPointerValue(record.RenamedTo)))
}

// changesSecret reports whether the declared secret differs, or may differ, from
// the one that the provider uploaded last.
func changesSecret(config, prior keyModel, record keyRecord) bool {
	secret := config.secret()
	switch {
	case secret.IsNull():
		return false
	case record.Unconfirmed:
		return true
	case secret.IsUnknown():
		// With a version, the version alone decides.
		return !config.APIKey.IsNull() || config.APIKeyWOVersion.IsNull() || changesVersion(config, prior)
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

// showsMaskOf reports whether the stored key has the mask of secret. Eight
// bullets match nothing.
func showsMaskOf(stored keyModel, secret types.String) bool {
	return stored.MaskedKey.ValueString() != byok.MaskUnknown &&
		stored.MaskedKey.ValueString() == byok.Mask(secret.ValueString())
}

// dependsOnWriteOnly reports whether the decision to upload depends on a
// write-only value. The value can differ at apply, so a plan must not show as
// known what follows from it.
func dependsOnWriteOnly(config, prior keyModel) bool {
	return !config.APIKeyWO.IsNull() && (config.APIKeyWOVersion.IsNull() || changesVersion(config, prior))
}

// apiKeyOf plans api_key. A configuration without a secret, as in a pipeline
// that must not know it, keeps the one in state.
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

// drift is what another user did to a key since the provider's last write.
type drift struct {
	// replaced means that another user wrote the key, which always takes a
	// secret, but can be the same one. WIRE.md section 5.
	replaced bool
	// unconfirmed: it may have been the provider's own last write, whose
	// response was lost. Then it does not count as replaced.
	unconfirmed bool
	// renamedTo is a new name that state does not show.
	renamedTo *string
	// undecryptable means that the masked key was readable and no longer is.
	undecryptable bool
}

// driftOf compares a refreshed state with the record of the last write.
func driftOf(state keyModel, record keyRecord) drift {
	if record.absent() {
		return drift{}
	}
	masked := state.MaskedKey.ValueString()
	moved := record.UpdatedAt != "" && state.UpdatedAt.ValueString() != record.UpdatedAt
	// Eight bullets on either side can be the mask of any secret.
	remasked := masked != record.MaskedKey && masked != byok.MaskUnknown && record.MaskedKey != byok.MaskUnknown
	return drift{
		replaced:      (moved || remasked) && !record.Unconfirmed,
		unconfirmed:   record.Unconfirmed,
		renamedTo:     record.RenamedTo,
		undecryptable: !moved && masked == byok.MaskUnknown && record.MaskedKey != byok.MaskUnknown,
	}
}
