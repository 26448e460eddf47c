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

resource "byok_pool" "this" {
  workspace_id = var.workspace_id
  provider_id  = "openai"
  keys         = { for name in var.names : name => { api_key_wo = var.secrets[name] } }
}
