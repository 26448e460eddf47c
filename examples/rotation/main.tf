# A module with labelled generations of a key. A call:
#
#   module "openai" {
#     source      = "./rotation"
#     provider_id = "openai"
#     generations = { "2026-q4" = { retire_after = "2026-12-15" } }
#     secrets     = var.openai_secrets
#   }

terraform {
  required_version = ">= 1.11"

  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}

variable "workspace_id" {
  description = "ID of the workspace. Default: that of the provider."
  type        = string
  default     = null
}

variable "provider_id" {
  description = "AI provider of the keys, such as openai."
  type        = string
}

variable "generations" {
  description = "Keys by label. All of them are served. From the day retire_after (YYYY-MM-DD, UTC) on, a check reminds you to remove the generation."
  type        = map(object({ retire_after = string }))

  validation {
    condition     = alltrue([for generation in var.generations : can(timeadd("${generation.retire_after}T00:00:00Z", "0s"))])
    error_message = "retire_after is a date, such as 2026-12-15."
  }
  validation {
    condition     = length(var.generations) >= 1 && length(var.generations) <= 10
    error_message = "A pool has 1 to 10 keys."
  }
}

variable "secrets" {
  description = "Secrets by label. Only a generation that is new needs one."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
  default     = {}
}

variable "notice_days" {
  description = "How many days before the last generation is due a check asks for the next one."
  type        = number
  default     = 14
}

locals {
  # Nothing follows from these but warnings: no date ever removes a key.
  due = { for label, generation in var.generations : label => "${generation.retire_after}T00:00:00Z" }
  overdue = [
    for label, date in local.due : label if timecmp(plantimestamp(), date) >= 0
  ]
  lasting = [
    for label, date in local.due : label if timecmp(timeadd(plantimestamp(), "${24 * var.notice_days}h"), date) < 0
  ]
}

resource "byok_pool" "this" {
  workspace_id = var.workspace_id
  provider_id  = var.provider_id

  keys = {
    for label, generation in var.generations : label => {
      api_key_wo = lookup(var.secrets, label, null)
      # The secret of a generation never changes: a new one is a new generation.
      api_key_wo_version = 1
    }
  }
}

check "retirement" {
  assert {
    condition     = length(local.overdue) == 0
    error_message = "Due to retire: ${join(", ", local.overdue)}. Remove it from generations and apply; after that, revoke it at the AI provider."
  }
}

check "successor" {
  assert {
    condition     = length(local.lasting) > 0
    error_message = "Every generation is due within ${var.notice_days} days. Create a key at the AI provider, and add it to generations and secrets."
  }
}

output "keys" {
  description = "ID, masked key and time of creation, by label."
  value       = { for label, key in byok_pool.this.keys : label => { id = key.id, masked_key = key.masked_key, created_at = key.created_at } }
}
