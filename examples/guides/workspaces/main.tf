variable "workspaces" {
  description = "Workspace IDs, by name."
  type        = map(string)
  default = {
    production = "11111111-2222-4333-8444-555555555555"
    staging    = "66666666-7777-4888-9999-000000000000"
  }
}

variable "openai_api_keys" {
  description = "Secrets, by name of the workspace."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

resource "byok_key" "openai" {
  for_each = var.workspaces

  workspace_id = each.value
  provider_id  = "openai"
  name         = "terraform"
  api_key_wo   = var.openai_api_keys[each.key]
}
