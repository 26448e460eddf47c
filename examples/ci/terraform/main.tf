terraform {
  required_version = ">= 1.11"

  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }

  # Add your backend here: the state has to outlive the jobs.
}

# BYOK_ENDPOINT, BYOK_WORKSPACE_ID and BYOK_SESSION_TOKEN are in the environment.
provider "byok" {}

variable "openai_keys" {
  description = "OpenAI keys: the version of each secret, by name. Raise the version to upload a new secret."
  type        = map(number)
  default = {
    primary = 1
    spare   = 1
  }
}

variable "openai_api_keys" {
  description = "Secrets of the OpenAI keys, by name. A plan works with any value."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
}

resource "byok_pool" "openai" {
  provider_id = "openai"

  keys = {
    for name, version in var.openai_keys : name => {
      api_key_wo         = var.openai_api_keys[name]
      api_key_wo_version = version
    }
  }
}

output "keys" {
  description = "ID and masked key, by name."
  value       = { for name, key in byok_pool.openai.keys : name => { id = key.id, masked_key = key.masked_key } }
}
