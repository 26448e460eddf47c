variable "openai_api_key" {
  type      = string
  sensitive = true
  ephemeral = true
}

resource "byok_key" "openai" {
  provider_id = "openai"
  name        = "production"
  api_key_wo  = var.openai_api_key
}
