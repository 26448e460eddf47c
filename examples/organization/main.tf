# One configuration for an organization: its shared keys, and a pool in each of
# its workspaces. The user is an admin of the organization.

terraform {
  required_version = ">= 1.11"
  required_providers {
    byok = { source = "terraform-provider-byok/byok" }
  }
}

provider "byok" {
  # BYOK_ENDPOINT and BYOK_SESSION_TOKEN
}

variable "organization_id" {
  type        = string
  description = "ID of the organization; byok_workspaces shows it as organization_id of each workspace."
}

variable "shared_openai_api_keys" {
  type        = map(string)
  sensitive   = true
  ephemeral   = true
  description = "OpenAI keys that all workspaces inherit, by name. Set names in shared_openai_names, too."
}

variable "shared_openai_names" {
  type        = set(string)
  description = "Names of the shared OpenAI keys: unlike the keys, they are not secret."
}

variable "anthropic_api_keys" {
  type        = map(string)
  sensitive   = true
  ephemeral   = true
  description = "Anthropic key of each workspace, by workspace ID."
}

data "byok_workspaces" "all" {}

locals {
  workspaces = { for workspace in data.byok_workspaces.all.workspaces : workspace.id => workspace.name if workspace.organization_id == var.organization_id }
}

# Every workspace without OpenAI keys of its own uses these.
resource "byok_pool" "shared" {
  organization_id = var.organization_id
  provider_id     = "openai"

  keys = { for name in var.shared_openai_names : name => { api_key_wo = var.shared_openai_api_keys[name] } }
}

# Each workspace has an Anthropic key of its own, so that its use can be told
# from that of the others.
resource "byok_pool" "anthropic" {
  for_each = local.workspaces

  workspace_id = each.key
  provider_id  = "anthropic"

  keys = { own = { api_key_wo = var.anthropic_api_keys[each.key], name = each.value } }
}

output "workspaces" {
  value = local.workspaces
}
