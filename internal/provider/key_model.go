package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"golang.org/x/text/unicode/norm"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/client"
)

// keyModel is a byok_key: as configured (with the write-only value), as
// planned, or as stored in state. Each field has a row in keyTable.
type keyModel struct {
	WorkspaceID     types.String
	OrganizationID  types.String
	ProviderID      types.String
	Name            types.String
	APIKey          types.String
	APIKeyWO        types.String
	APIKeyWOVersion types.Int64
	OnRemoteChange  types.String
	ID              types.String
	MaskedKey       types.String
	CreatedBy       types.String
	CreatedAt       types.String
	UpdatedAt       types.String
	Timeouts        timeouts.Value
}

// read sets m to a configuration, a plan or a state.
func (m *keyModel) read(ctx context.Context, from objectReader) diag.Diagnostics {
	return keyTable.read(ctx, from, m)
}

// value is m as the framework's Set takes it.
func (m keyModel) value(ctx context.Context) types.Object { return keyTable.value(ctx, &m) }

func (m keyModel) identity() identity {
	return identity{&keyIdentity, m.scopeFields().values(), m.ID}
}

// ref names the key in messages.
func (m keyModel) ref() keyRef {
	return keyRef{
		pool:  byok.Pool{Scope: m.scope(), ProviderID: m.ProviderID.ValueString()},
		keyID: m.ID.ValueString(),
		name:  m.Name.ValueString(),
	}
}

// pool is where the ledger counts the key; ok is false while it is unknown.
func (m keyModel) pool() (pool byok.Pool, ok bool) {
	scope, known := m.scopeFields().values().scope()
	return byok.Pool{Scope: scope, ProviderID: m.ProviderID.ValueString()}, known && !m.ProviderID.IsUnknown()
}

// scope is where the key is stored.
func (m keyModel) scope() byok.Scope {
	scope, _ := m.scopeFields().values().scope()
	return scope
}

// scopeFields are the fields with the IDs of scopes.
func (m *keyModel) scopeFields() scopeFields {
	return scopeFields{byok.Workspace: &m.WorkspaceID, byok.Organization: &m.OrganizationID}
}

// withScope returns m in another scope.
func (m keyModel) withScope(ids scopeIDs) keyModel {
	m.scopeFields().set(ids)
	return m
}

// secret is the API key that a configuration declares, by either attribute:
// null when it declares none. It makes sense for a configuration only, because
// plan and state never hold a write-only value.
func (m keyModel) secret() types.String {
	if !m.APIKey.IsNull() {
		return m.APIKey
	}
	return m.APIKeyWO
}

// addInput is the request that creates the key m plans, with a secret from the
// configuration.
func (m keyModel) addInput(secret string) client.AddInput {
	in := client.AddInput{APIKey: secret, WaitForCapacity: true}
	if name := byok.TrimName(m.Name.ValueString()); name != "" {
		in.Name = &name
	}
	return in
}

// replaceInput is the request that makes the stored key what m plans. The name
// always goes along, for without one the API keeps what is stored.
func (m keyModel) replaceInput(secret string, prior keyModel) client.ReplaceInput {
	name, key := byok.TrimName(m.Name.ValueString()), prior.key()
	return client.ReplaceInput{
		KeyID:  m.ID.ValueString(),
		APIKey: secret,
		Name:   &name,
		Prior:  &key,
	}
}

// withCreated returns m with the response to an add.
func (m keyModel) withCreated(key byok.Key) keyModel {
	m.ID = types.StringValue(key.ID)
	m.CreatedBy = types.StringPointerValue(key.CreatedBy)
	m.CreatedAt = types.StringValue(key.CreatedAt)
	m.MaskedKey = types.StringValue(key.MaskedKey)
	m.UpdatedAt = types.StringValue(key.UpdatedAt)
	if key.UpdatedAt == "" {
		// An add whose record could not be read afterwards: both times are
		// the same, or a millisecond apart. WIRE.md section 12.
		m.UpdatedAt = m.CreatedAt
	}
	return m
}

// withReplaced returns m with the response to a replace.
func (m keyModel) withReplaced(key byok.Key) keyModel {
	m.MaskedKey = types.StringValue(key.MaskedKey)
	m.UpdatedAt = types.StringValue(key.UpdatedAt)
	return m
}

// withRemote returns m, a state, with what a list shows of the key. The name
// keeps its configured text as long as the API would store the same.
func (m keyModel) withRemote(key byok.Key) keyModel {
	m.ID = types.StringValue(key.ID)
	m.ProviderID = types.StringValue(key.ProviderID)
	if !sameName(m.Name, types.StringPointerValue(key.Name)) {
		m.Name = types.StringPointerValue(key.Name)
	}
	m.MaskedKey = types.StringValue(key.MaskedKey)
	m.CreatedBy = types.StringPointerValue(key.CreatedBy)
	m.CreatedAt = types.StringValue(key.CreatedAt)
	m.UpdatedAt = types.StringValue(key.UpdatedAt)
	return m
}

// refresh returns the state and the record after a look at the key, and
// whether either has changed. A key without a record is adopted as it is.
func refresh(prior keyModel, record keyRecord, key byok.Key) (keyModel, keyRecord, bool) {
	state, before := prior.withRemote(key), record
	record.RenamedTo = nil
	switch {
	case record.absent():
		record = adoptedRecord(key)
	case record.UpdatedAt == "":
		record.UpdatedAt = key.UpdatedAt
	}
	if !before.absent() && prior.OnRemoteChange.ValueString() == onRemoteChangeWarn && !sameName(prior.Name, state.Name) {
		// If state showed the other name, Terraform would plan the configured
		// one again, and that takes an upload of the secret.
		name := state.Name.ValueString()
		state.Name, record.RenamedTo = prior.Name, &name
	}
	changed := before.absent() || before.UpdatedAt != record.UpdatedAt ||
		before.RenamedTo != nil || record.RenamedTo != nil || !keyTable.equal(&state, &prior)
	return state, record, changed
}

// sameName reports whether the API stores the same name for a and b: it trims,
// and takes blank for none. Terraform normalises text to NFC, which a name
// from elsewhere need not be.
func sameName(a, b types.String) bool {
	return norm.NFC.String(byok.TrimName(a.ValueString())) == norm.NFC.String(byok.TrimName(b.ValueString()))
}

// key is the stored key that a state shows, without its name.
func (m keyModel) key() byok.Key {
	return byok.Key{
		ID:         m.ID.ValueString(),
		ProviderID: m.ProviderID.ValueString(),
		MaskedKey:  m.MaskedKey.ValueString(),
		CreatedBy:  m.CreatedBy.ValueStringPointer(),
		CreatedAt:  m.CreatedAt.ValueString(),
		UpdatedAt:  m.UpdatedAt.ValueString(),
	}
}

// asPlanned returns what an update declares: poolModel.asPlanned for one key.
func (m keyModel) asPlanned(plan keyModel) keyModel {
	declared := m
	keyTable.copy(&declared, &plan, configurable)
	if !m.APIKey.IsNull() {
		declared.APIKey = plan.APIKey
	}
	if !plan.UpdatedAt.IsUnknown() {
		declared.APIKeyWO = types.StringNull()
	}
	return declared
}

// durations are the timeouts of a key.
type durations struct{ create, read, update, delete time.Duration }

// durations returns the timeouts, or their defaults. It fails on a duration
// that is not above zero.
func (m keyModel) durations() (durations, diag.Diagnostics) {
	return durationsOf(m.Timeouts, defaultTimeout)
}

func durationsOf(block timeouts.Value, fallback time.Duration) (d durations, diags diag.Diagnostics) {
	d = durations{fallback, fallback, fallback, fallback}
	if block.IsNull() || block.IsUnknown() {
		return d, nil
	}
	for name, timeout := range map[string]*time.Duration{"create": &d.create, "read": &d.read, "update": &d.update, "delete": &d.delete} {
		value, ok := block.Attributes()[name].(types.String)
		if !ok || value.IsNull() || value.IsUnknown() {
			continue
		}
		var err error
		if *timeout, err = time.ParseDuration(value.ValueString()); err != nil || *timeout <= 0 {
			diags.AddAttributeError(path.Root("timeouts").AtName(name), "Invalid timeout",
				fmt.Sprintf("%q is not a duration above zero, such as 30s or 5m.", value.ValueString()))
		}
	}
	return d, diags
}
