# A key of an organization: every workspace of it that has no OpenAI keys of its
# own uses it.
resource "byok_key" "shared" {
  organization_id = var.organization_id
  provider_id     = "openai"
  name            = "shared by the organization"
  api_key_wo      = var.shared_openai_api_key
}

variable "organization_id" {
  type = string
}

variable "shared_openai_api_key" {
  type      = string
  sensitive = true
  ephemeral = true
}
