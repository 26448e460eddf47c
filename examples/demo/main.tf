# Three named OpenAI keys, each a resource of its own, and a pool of Anthropic
# keys as one resource, in one workspace. The endpoint, the workspace and the
# session come from BYOK_ENDPOINT, BYOK_WORKSPACE_ID and BYOK_SESSION_TOKEN.

terraform {
  required_version = ">= 1.11"

  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}

provider "byok" {}

resource "byok_key" "openai" {
  for_each = var.openai_names

  provider_id = "openai"
  name        = each.key
  api_key_wo  = var.openai_api_keys[each.key]
}

resource "byok_pool" "anthropic" {
  provider_id = "anthropic"
  exclusive   = true
  keys        = { for name in var.anthropic_names : name => { api_key_wo = var.anthropic_api_keys[name] } }
}

# In rotation order: the order in which the API created the keys.
data "byok_keys" "all" {
  depends_on = [byok_key.openai, byok_pool.anthropic]
}
