data "byok_keys" "all" {}

# The keys of one provider ID in rotation order, whoever added them.
output "openai" {
  value = [for key in data.byok_keys.all.keys : "${coalesce(key.name, key.id)}: ${key.masked_key}" if key.provider_id == "openai"]
}

# Pools with at least one key that can take another.
output "free_capacity" {
  value = { for provider_id, pool in data.byok_keys.all.pools : provider_id => pool.remaining if !pool.full }
}
