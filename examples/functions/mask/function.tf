variable "openai_api_key" {
  type      = string
  sensitive = true
}

data "byok_keys" "openai" {
  provider_id = "openai"
}

# Which stored keys can be the one in hand?
output "candidates" {
  value = [for key in data.byok_keys.openai.keys : key.id if key.masked_key == nonsensitive(provider::byok::mask(var.openai_api_key))]
}
