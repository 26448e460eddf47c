variable "anthropic_api_keys" {
  description = "Secrets of the Anthropic keys, by name."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

resource "byok_key" "anthropic" {
  for_each = toset(["team-a", "team-b", "overflow"])

  provider_id = "anthropic"
  name        = each.key
  api_key_wo  = var.anthropic_api_keys[each.key]
}
