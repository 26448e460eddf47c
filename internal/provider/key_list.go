package provider

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// newKeyList is the list resource of byok_key.
func newKeyList() list.ListResource {
	return &listResource{
		configuredResource: configuredResource{&operation{}},
		typeName:           keyTypeName,
		description: "Finds stored keys, whether Terraform manages them or not, for `terraform query` (Terraform 1.14 and later). " +
			"Needs read permission on each workspace, or the role of admin or owner in an organization.",
		noun: "keys",
		find: func(in byok.Scope, keys []byok.Key) (all []found) {
			for _, key := range keys {
				m := importedKey(in, key)
				all = append(all, found{displayName: keyTitle(key), identity: m.identity(), resource: m})
			}
			return all
		},
	}
}

// importedKey is the state of a stored key that is imported. What a
// configuration does not have to say has its default: an imported key would
// otherwise never plan empty.
func importedKey(in byok.Scope, key byok.Key) keyModel {
	m := keyModel{Timeouts: nullTimeouts()}.withScope(idsOf(in)).withRemote(key)
	m.OnRemoteChange = types.StringValue(onRemoteChangeRepair)
	return m
}

// keyTitle tells a key from others of its scope: by its name, which need not be
// unique, and by what Sim shows of its secret.
func keyTitle(key byok.Key) string {
	if key.Name == nil {
		return fmt.Sprintf("%s key %s", key.ProviderID, key.MaskedKey)
	}
	return fmt.Sprintf("%s key %q (%s)", key.ProviderID, *key.Name, key.MaskedKey)
}
