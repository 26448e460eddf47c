# Three named OpenAI keys and two Anthropic keys in one workspace. The endpoint,
# the workspace and the session come from BYOK_ENDPOINT, BYOK_WORKSPACE_ID and
# BYOK_SESSION_TOKEN.

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

resource "byok_key" "anthropic" {
  for_each = var.anthropic_names

  provider_id = "anthropic"
  name        = each.key
  api_key_wo  = var.anthropic_api_keys[each.key]
}

# In rotation order: the order in which the API created the keys.
data "byok_keys" "all" {
  depends_on = [byok_key.openai, byok_key.anthropic]
}
