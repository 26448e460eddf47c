import {
  to = byok_pool.openai
  id = "11111111-2222-4333-8444-555555555555/openai"
}
