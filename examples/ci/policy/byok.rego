# Rules for plans of BYOK keys, for conftest:
#
#   terraform show -json plan.tfplan > plan.json
#   conftest test plan.json --policy policy --data labels.json
#
# labels.json is {"labels": [...]}, the labels of the pull request.
package main

import rego.v1

has_label(name) if name in data.labels

changes contains change if {
	some change in input.resource_changes
	change.mode == "managed"
	change.type in {"byok_key", "byok_pool"}
}

# A secret in api_key is stored in state and in the plan, or will be when it is
# known.
deny contains msg if {
	some change in changes
	change.type == "byok_key"
	stores_secret(change.change)
	msg := sprintf("%s: use api_key_wo instead of api_key, which is stored in state", [change.address])
}

stores_secret(change) if change.after.api_key != null

stores_secret(change) if change.after_unknown.api_key == true

# An exclusive byok_pool removes the keys that others have added.
deny contains msg if {
	some change in changes
	change.type == "byok_pool"
	"update" in change.change.actions
	some id, key in change.change.before.unmanaged
	not object.get(change.change.after, "unmanaged", {})[id]
	not object.get(change.change.after_unknown, "unmanaged", false) == true
	not has_label("remove-unmanaged-keys")
	msg := sprintf("%s: removes key %s (%s), which the configuration does not manage; label the pull request remove-unmanaged-keys to allow it", [change.address, id, key.masked_key])
}

# Removing an element of a byok_pool is an update: prevent_destroy does not stop it.
deny contains msg if {
	some change in changes
	change.type == "byok_pool"
	"update" in change.change.actions
	some name, _ in change.change.before.keys
	not change.change.after.keys[name]
	not has_label("remove-keys")
	msg := sprintf("%s: removes the key %q; label the pull request remove-keys to allow it", [change.address, name])
}

# A pool without keys, after a delete or a move to another pool: workflows that use
# the AI provider stop.
deny contains msg if {
	some change in changes
	change.type == "byok_pool"
	"delete" in change.change.actions
	not same_pool(change.change)
	msg := sprintf("%s: removes the last keys of pool %q", [change.address, change.change.before.provider_id])
}

deny contains msg if {
	some change in changes
	change.type == "byok_key"
	"delete" in change.change.actions
	not pool(change.change.before) in pools_after
	msg := sprintf("%s: removes the last key of pool %q that this configuration manages", [change.address, change.change.before.provider_id])
}

pool(key) := [object.get(key, "workspace_id", null), object.get(key, "organization_id", null), key.provider_id]

pools_after contains pool(change.change.after) if {
	some change in changes
	change.change.after != null
}

same_pool(change) if {
	change.after != null
	pool(change.before) == pool(change.after)
}
