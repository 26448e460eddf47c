variable "anthropic_names" {
  description = "Names of the Anthropic keys. Not secret: they decide which keys exist."
  type        = set(string)
  default     = ["team-a", "team-b", "overflow"]
}

variable "anthropic_api_keys" {
  description = "Secrets of the Anthropic keys, by name."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

resource "byok_pool" "anthropic" {
  provider_id = "anthropic"
  keys        = { for name in var.anthropic_names : name => { api_key_wo = var.anthropic_api_keys[name] } }
}
