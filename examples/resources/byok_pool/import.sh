terraform import byok_pool.openai 11111111-2222-4333-8444-555555555555/openai

# of an organization
terraform import byok_pool.shared organization/org-7f3a/openai
