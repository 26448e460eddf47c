variable "mistral_api_keys" {
  type      = map(string)
  sensitive = true
  ephemeral = true
}

# Was: resource "byok_key" "mistral" { for_each = toset(["first", "second"]) ... }
removed {
  from = byok_key.mistral

  lifecycle {
    destroy = false
  }
}

import {
  to = byok_pool.mistral
  id = "mistral"
}

resource "byok_pool" "mistral" {
  provider_id = "mistral"

  keys = {
    first  = { api_key_wo = var.mistral_api_keys["first"] }
    second = { api_key_wo = var.mistral_api_keys["second"] }
  }
}
