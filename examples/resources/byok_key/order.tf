variable "mistral_api_keys" {
  type      = map(string)
  sensitive = true
  ephemeral = true
}

resource "byok_key" "first" {
  provider_id = "mistral"
  name        = "first"
  api_key_wo  = var.mistral_api_keys["first"]
}

resource "byok_key" "second" {
  provider_id = "mistral"
  name        = "second"
  api_key_wo  = var.mistral_api_keys["second"]

  depends_on = [byok_key.first]
}
