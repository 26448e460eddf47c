terraform {
  required_version = ">= 1.11"

  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}

# The session comes from the environment: BYOK_SESSION_TOKEN, or BYOK_EMAIL and
# BYOK_PASSWORD.
provider "byok" {
  endpoint     = "https://sim.example.com"
  workspace_id = "11111111-2222-4333-8444-555555555555"
}
