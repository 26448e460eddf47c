variable "openai_api_keys" {
  description = "Secrets of the OpenAI keys, by name."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

resource "byok_pool" "openai" {
  provider_id = "openai"

  keys = {
    primary = { api_key_wo = var.openai_api_keys["primary"] }
    spare   = { api_key_wo = var.openai_api_keys["spare"] }
  }
}
