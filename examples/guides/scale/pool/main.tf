terraform {
  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}

variable "workspace_id" {
  type = string
}

variable "names" {
  type = set(string)
}

variable "secrets" {
  type      = map(string)
  sensitive = true
  ephemeral = true
}

resource "byok_key" "this" {
  for_each = var.names

  workspace_id = var.workspace_id
  provider_id  = "openai"
  name         = each.key
  api_key_wo   = var.secrets[each.key]
}
