package provider

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// defaultPoolTimeout is longer than that of one key: a pool is up to ten adds,
// one after the other.
const defaultPoolTimeout = 20 * time.Minute

// poolModel is a byok_pool: as configured (with the write-only values), as
// planned, or as stored in state. Each field has a row in poolTable.
type poolModel struct {
	WorkspaceID    types.String
	OrganizationID types.String
	ProviderID     types.String
	Keys           objectMap[poolKey]
	Exclusive      types.Bool
	Unmanaged      objectMap[unmanagedKey]
	OnRemoteChange types.String
	Timeouts       timeouts.Value
}

// poolKey is one element of keys. Each field has a row in poolKeyTable.
type poolKey struct {
	APIKeyWO        types.String
	APIKeyWOVersion types.Int64
	Name            types.String
	ID              types.String
	MaskedKey       types.String
	CreatedBy       types.String
	CreatedAt       types.String
	UpdatedAt       types.String
}

// unmanagedKey is another key of the pool.
type unmanagedKey struct{ Name, MaskedKey, CreatedBy, CreatedAt types.String }

func (m poolModel) identity() identity {
	return identity{&poolIdentity, m.scopeFields().values(), m.ProviderID}
}

// pool is what the model declares or stores; known is false while that is not
// known.
func (m poolModel) pool() (pool byok.Pool, known bool) {
	scope, known := m.scopeFields().values().scope()
	return byok.Pool{Scope: scope, ProviderID: m.ProviderID.ValueString()}, known && !m.ProviderID.IsUnknown()
}

// ref names the pool in messages.
func (m poolModel) ref() string {
	pool, _ := m.pool()
	return fmt.Sprintf("pool %q of %s %q", pool.ProviderID, pool.Scope.Kind, pool.Scope.ID)
}

// scopeFields are the fields with the IDs of scopes.
func (m *poolModel) scopeFields() scopeFields {
	return scopeFields{byok.Workspace: &m.WorkspaceID, byok.Organization: &m.OrganizationID}
}

// withScope returns m in another scope.
func (m poolModel) withScope(ids scopeIDs) poolModel {
	m.scopeFields().set(ids)
	return m
}

// names returns the map keys of keys, sorted: the order of adds.
func (m poolModel) names() []string { return slices.Sorted(maps.Keys(m.Keys.elements)) }

// isUnknown reports whether an element of a configuration is not known at all:
// nobody configures its ID.
func (k poolKey) isUnknown() bool { return k.ID.IsUnknown() }

// ids returns the IDs of the stored keys, by map key order.
func (m poolModel) ids() (ids []string) {
	for _, name := range m.names() {
		if id := m.Keys.elements[name].ID; !id.IsNull() && !id.IsUnknown() {
			ids = append(ids, id.ValueString())
		}
	}
	return ids
}

// key is one element as byok_key would have it, so that the same functions
// decide about it.
func (m poolModel) key(name string) keyModel {
	element := m.Keys.elements[name]
	return keyModel{
		WorkspaceID: m.WorkspaceID, OrganizationID: m.OrganizationID, ProviderID: m.ProviderID, OnRemoteChange: m.OnRemoteChange,
		APIKeyWO: element.APIKeyWO, APIKeyWOVersion: element.APIKeyWOVersion, Name: element.Name,
		ID: element.ID, MaskedKey: element.MaskedKey,
		CreatedBy: element.CreatedBy, CreatedAt: element.CreatedAt, UpdatedAt: element.UpdatedAt,
	}
}

// declaredKey is key for a configuration: with the name that the element has
// where it declares none. id is that of the stored key, or "".
func (m poolModel) declaredKey(name, id string) keyModel {
	key := m.key(name)
	if key.Name.IsNull() && !namesKeyWithoutName(name, id) {
		key.Name = types.StringValue(name)
	}
	return key
}

// asPlanned returns what an update declares. Terraform applies ignore_changes to
// the configuration of a plan and not to that of an apply, so that all but the
// secrets come from the plan, and no secret where the plan leaves the key as it is.
func (m poolModel) asPlanned(plan, prior poolModel) poolModel {
	declared := plan
	declared.Keys.elements = make(map[string]poolKey, len(plan.Keys.elements))
	for name, planned := range plan.Keys.elements {
		element := poolKey{Name: planned.Name, APIKeyWOVersion: planned.APIKeyWOVersion}
		if planned.UpdatedAt.IsUnknown() || !planned.ID.Equal(prior.Keys.elements[name].ID) {
			element.APIKeyWO = m.Keys.elements[name].APIKeyWO
		}
		declared.Keys.elements[name] = element
	}
	return declared
}

// idPrefix makes a map key of a key ID that is not an identifier.
const idPrefix = "key_"

// namesKeyWithoutName reports whether a map key is the one that an import
// gives to the key of this ID for want of a name.
func namesKeyWithoutName(name, id string) bool {
	return id != "" && (name == id || name == idPrefix+id)
}

// poolKeyOf is the reverse of key.
func poolKeyOf(m keyModel) poolKey {
	return poolKey{
		APIKeyWOVersion: m.APIKeyWOVersion, Name: m.Name, ID: m.ID, MaskedKey: m.MaskedKey,
		CreatedBy: m.CreatedBy, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt,
	}
}

// unmanagedKeyOf is what unmanaged shows of a stored key.
func unmanagedKeyOf(key byok.Key) unmanagedKey {
	return unmanagedKey{
		Name:      types.StringPointerValue(key.Name),
		MaskedKey: types.StringValue(key.MaskedKey),
		CreatedBy: types.StringPointerValue(key.CreatedBy),
		CreatedAt: types.StringValue(key.CreatedAt),
	}
}

// read sets m to a configuration, a plan or a state.
func (m *poolModel) read(ctx context.Context, from objectReader) diag.Diagnostics {
	return poolTable.read(ctx, from, m)
}

// value is m as the framework's Set takes it.
func (m poolModel) value(ctx context.Context) types.Object { return poolTable.value(ctx, &m) }

// equal reports whether all attributes are equal.
func (m poolModel) equal(other poolModel) bool { return poolTable.equal(&m, &other) }

// inPool returns the keys of a list that are in the pool.
func inPool(keys []byok.Key, pool byok.Pool) (stored []byok.Key) {
	for _, key := range keys {
		if key.ProviderID == pool.ProviderID {
			stored = append(stored, key)
		}
	}
	return stored
}

// importNames returns a map key for each stored key: its name where that is
// unique and an identifier, else its ID where that is one, else the ID after
// key_. Identifiers are all that generated configuration can have as map keys:
// OpenTofu writes them without quotes, and Terraform fails on ${.
func importNames(stored []byok.Key) map[string]byok.Key {
	uses := map[string]int{}
	for _, key := range stored {
		uses[key.ID]++
		uses[idPrefix+key.ID]++
		if key.Name != nil {
			uses[*key.Name]++
		}
	}
	byName := map[string]byok.Key{}
	for _, key := range stored {
		switch {
		case key.Name != nil && isIdentifier(*key.Name) && uses[*key.Name] == 1:
			byName[*key.Name] = key
		case isIdentifier(key.ID):
			byName[key.ID] = key
		default:
			byName[idPrefix+key.ID] = key
		}
	}
	return byName
}

// isIdentifier reports whether name can be a map key without quotes in
// configuration. ASCII only: what else HCL allows depends on its version.
func isIdentifier(name string) bool {
	if name == "" || strings.ContainsRune("0123456789-", rune(name[0])) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) && !isHCLKeyword(name)
}

// isHCLKeyword reports whether name as a map key has another meaning than
// itself.
func isHCLKeyword(name string) bool {
	switch name {
	case "null", "true", "false", "for":
		return true
	}
	return false
}

// nullTimeouts is the timeouts block of a configuration without one.
func nullTimeouts() timeouts.Value {
	return timeouts.Value{Object: types.ObjectNull(map[string]attr.Type{
		"create": types.StringType, "read": types.StringType, "update": types.StringType, "delete": types.StringType,
	})}
}
