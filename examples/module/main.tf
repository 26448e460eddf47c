terraform {
  required_version = ">= 1.11"

  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}

variable "provider_id" {
  description = "AI provider of all keys, such as openai."
  type        = string
}

variable "pools" {
  description = "Workspaces by name, each with its keys: the version of each secret, by name of the key."
  type = map(object({
    workspace_id = string
    keys         = map(number)
  }))

  validation {
    condition     = alltrue([for pool in var.pools : length(pool.keys) >= 1 && length(pool.keys) <= 10])
    error_message = "Each pool has 1 to 10 keys."
  }
}

variable "secrets" {
  description = "Secrets by name of the workspace and name of the key."
  type        = map(map(string))
  sensitive   = true
  ephemeral   = true
}

resource "byok_pool" "this" {
  for_each = var.pools

  workspace_id = each.value.workspace_id
  provider_id  = var.provider_id

  keys = {
    for name, version in each.value.keys : name => {
      api_key_wo         = var.secrets[each.key][name]
      api_key_wo_version = version
    }
  }
}

locals {
  keys = merge([
    for workspace, pool in byok_pool.this : { for name, key in pool.keys : "${workspace}/${name}" => key }
  ]...)
}

check "readable" {
  assert {
    condition     = alltrue([for key in local.keys : !startswith(key.masked_key, "•")])
    error_message = "Sim cannot decrypt one of the keys, or its secret has 8 characters or fewer."
  }
}

output "keys" {
  description = "ID and masked key, by workspace and name."
  value       = { for address, key in local.keys : address => { id = key.id, masked_key = key.masked_key } }
}
