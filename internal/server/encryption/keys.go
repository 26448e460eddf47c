package encryption

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/database"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/keystore"
	"github.com/terraform-provider-byok/terraform-provider-byok/internal/server/seal"
)

// table is a table with keys in encrypted_api_key. The other fields are its
// columns, or SQL in their place; owner, provider and id identify a key.
type table struct {
	name                       string
	scope                      keystore.Scope
	owner, provider, id, label string
}

// tables are all tables that hold keys. One that is missing here is not encrypted
// anew when ENCRYPTION_KEY changes.
var tables = [...]table{
	{name: "workspace_byok_keys", scope: keystore.Workspace, owner: "workspace_id", provider: "provider_id", id: "id", label: "name"},
	{name: "organization_byok_keys", scope: keystore.Organization, owner: "organization_id", provider: "provider_id", id: "id", label: "name"},
}

// query fills a query in with the table's columns.
func (t table) query(text string) string {
	return strings.NewReplacer("{table}", t.name, "{owner}", t.owner, "{provider}", t.provider, "{id}", t.id, "{label}", t.label).Replace(text)
}

// State says which key opens a stored key.
type State string

// The states.
const (
	// Current is sealed with ENCRYPTION_KEY.
	Current State = "current"
	// Old is sealed with one of DECRYPTION_KEYS: rekey seals it anew.
	Old State = "old key"
	// Foreign is opened by none of the keys, or was changed since it was stored.
	Foreign State = "unreadable"
	// Malformed is no sealed value at all.
	Malformed State = "malformed"
)

// IsReadable reports whether the key can be served.
func (s State) IsReadable() bool { return s == Current || s == Old }

// Key is a stored key, without its secret.
type Key struct {
	keystore.Pool
	keystore.Record
	Masked string
	State  State
}

// Each calls visit for every stored key of an owner, or of all where its ID is
// empty: workspaces first, then organizations, each pool in rotation order.
func (v *Vault) Each(ctx context.Context, owner keystore.Owner, visit func(Key) error) error {
	for _, t := range tables {
		if owner.ID != "" && owner.Scope != t.scope {
			continue
		}
		if err := v.each(ctx, t, owner.ID, visit); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) each(ctx context.Context, t table, ownerID string, visit func(Key) error) error {
	query := "SELECT {owner}, {id}, {provider}, {label}, encrypted_api_key, created_by, created_at, updated_at FROM {table}"
	var args []any
	if ownerID != "" {
		query, args = query+" WHERE {owner} = $1", append(args, ownerID)
	}
	rows, err := v.db.Read.QueryContext(ctx, t.query(query+" ORDER BY {owner}, {provider}, created_at, {id}"), args...)
	if err != nil {
		return fmt.Errorf("read stored keys: %w", database.Explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		key := Key{Pool: keystore.Pool{Owner: keystore.Owner{Scope: t.scope}}}
		var createdAt, updatedAt database.Time
		r := &key.Record
		if err := rows.Scan(&key.Owner.ID, &r.ID, &r.ProviderID, &r.Name, &r.Sealed, &r.CreatedBy, &createdAt, &updatedAt); err != nil {
			return fmt.Errorf("read stored keys: %w", err)
		}
		r.CreatedAt, r.UpdatedAt, key.Pool.ProviderID = createdAt.Time, updatedAt.Time, r.ProviderID
		plaintext, isCurrent, err := v.sealer.OpenWith(r.Sealed)
		key.State, key.Masked = stateOf(isCurrent, err), byok.MaskUnknown
		if err == nil {
			key.Masked = byok.Mask(plaintext)
		}
		if err := visit(key); err != nil {
			return err
		}
	}
	return rows.Err()
}

func stateOf(isCurrent bool, err error) State {
	switch {
	case errors.Is(err, seal.ErrMalformed):
		return Malformed
	case err != nil:
		return Foreign
	case isCurrent:
		return Current
	}
	return Old
}
