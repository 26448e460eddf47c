# Every pool of every workspace that the user can see.
list "byok_pool" "every" {
  provider = byok
  limit    = 1000

  config {
    workspace_ids = ["*"]
  }
}

# The OpenAI pools of one workspace and of the organization that shares keys with it.
list "byok_pool" "openai" {
  provider = byok

  config {
    workspace_ids    = ["11111111-2222-4333-8444-555555555555"]
    organization_ids = ["org_acme"]
    provider_ids     = ["openai"]
  }
}
