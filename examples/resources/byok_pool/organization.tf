# Every workspace of the organization that has no OpenAI keys of its own uses
# these.
resource "byok_pool" "shared" {
  organization_id = var.organization_id
  provider_id     = "openai"

  keys = {
    primary = { api_key_wo = var.shared_openai_api_keys["primary"] }
    spare   = { api_key_wo = var.shared_openai_api_keys["spare"] }
  }
}

variable "organization_id" {
  type = string
}

variable "shared_openai_api_keys" {
  type      = map(string)
  sensitive = true
  ephemeral = true
}
