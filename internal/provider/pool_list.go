package provider

import (
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/list"

	"github.com/terraform-provider-byok/terraform-provider-byok/internal/byok"
)

// newPoolList is the list resource of byok_pool.
func newPoolList() list.ListResource {
	return &listResource{
		configuredResource: configuredResource{&operation{}},
		typeName:           poolTypeName,
		description: "Finds pools that store at least one key, whether Terraform manages them or not, for `terraform query` (Terraform 1.14 and later). " +
			"Needs read permission on each workspace, or the role of admin or owner in an organization.",
		noun: "pools",
		find: func(in byok.Scope, keys []byok.Key) (all []found) {
			for len(keys) > 0 {
				pool := byok.Pool{Scope: in, ProviderID: keys[0].ProviderID}
				stored := inPool(keys, pool)
				m := importedPool(pool, stored)
				all = append(all, found{displayName: poolTitle(pool, stored), identity: m.identity(), resource: m})
				keys = keys[len(stored):] // which are sorted by provider ID
			}
			return all
		},
	}
}

// poolTitle tells a pool from others of its scope, and names its keys.
func poolTitle(pool byok.Pool, stored []byok.Key) string {
	names := make([]string, len(stored))
	for i, key := range stored {
		if names[i] = key.MaskedKey; key.Name != nil {
			names[i] = fmt.Sprintf("%q", *key.Name)
		}
	}
	noun := "keys"
	if len(stored) == 1 {
		noun = "key"
	}
	return fmt.Sprintf("%s pool of %d %s: %s", pool.ProviderID, len(stored), noun, strings.Join(names, ", "))
}
