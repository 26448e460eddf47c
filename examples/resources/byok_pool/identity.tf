import {
  to = byok_pool.openai
  identity = {
    workspace_id = "11111111-2222-4333-8444-555555555555" # optional: default is that of the provider
    provider_id  = "openai"
  }
}
