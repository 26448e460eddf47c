output "keys" {
  description = "The keys of the workspace in rotation order."
  value = [
    for key in data.byok_keys.all.keys : {
      id          = key.id
      provider_id = key.provider_id
      name        = key.name
      masked_key  = key.masked_key
    }
  ]
}

output "pools" {
  description = "How full each pool is."
  value       = data.byok_keys.all.pools
}
