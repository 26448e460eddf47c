import {
  to = byok_pool.shared
  identity = {
    organization_id = "org-7f3a"
    provider_id     = "openai"
  }
}
