# A check warns at every plan and apply, and never stops one. The data source is
# read before an apply changes anything: the apply that corrects a problem can
# still print the warning, and the next plan no longer does.
data "byok_keys" "openai" {
  provider_id = "openai"
}

locals {
  openai = data.byok_keys.openai.pools["openai"]
}

check "openai_rotation" {
  assert {
    condition     = local.openai.count >= 2
    error_message = "Fewer than two OpenAI keys are left: while one is rate limited, no other can serve."
  }
}

check "openai_age" {
  assert {
    condition     = coalesce(local.openai.oldest_age_days, 0) <= 90
    error_message = "An OpenAI key was last written more than 90 days ago. Replace it."
  }
}

# Keys that another user, or another configuration, added.
check "openai_is_ours" {
  assert {
    condition     = length(setsubtract([for key in data.byok_keys.openai.keys : key.id], [byok_key.openai_main.id])) == 0
    error_message = "The OpenAI pool has keys that this configuration does not manage."
  }
}

check "openai_health" {
  assert {
    condition     = length(local.openai.undecryptable_ids) + length(local.openai.repeated_names) == 0
    error_message = "Some OpenAI keys cannot be decrypted, or share a name."
  }
}

resource "byok_key" "openai_main" {
  provider_id = "openai"
  name        = "main"
  api_key_wo  = var.openai_main_api_key
}

variable "openai_main_api_key" {
  type      = string
  ephemeral = true
}
