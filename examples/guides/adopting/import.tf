variable "api_keys" {
  description = "Secrets of the keys, by import ID. A key without one is adopted all the same."
  type        = map(string)
  sensitive   = true
  ephemeral   = true
  default     = {}
}

locals {
  # By import ID, because names need not be unique.
  stored = { for key in data.byok_keys.all.keys : key.import_id => key }
}

import {
  for_each = local.stored
  to       = byok_key.adopted[each.key]
  id       = each.key
}

resource "byok_key" "adopted" {
  for_each = local.stored

  provider_id = each.value.provider_id
  name        = each.value.name
  api_key_wo  = lookup(var.api_keys, each.key, null)
}
