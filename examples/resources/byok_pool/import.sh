terraform import byok_pool.openai 11111111-2222-4333-8444-555555555555/openai
