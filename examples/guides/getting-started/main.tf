terraform {
  required_version = ">= 1.11"

  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}

# Endpoint, workspace and session come from the environment.
provider "byok" {}

variable "openai_api_key" {
  type      = string
  sensitive = true
  ephemeral = true
}

resource "byok_pool" "openai" {
  provider_id = "openai"

  keys = {
    production = { api_key_wo = var.openai_api_key }
  }
}

output "masked_key" {
  value = byok_pool.openai.keys["production"].masked_key
}
