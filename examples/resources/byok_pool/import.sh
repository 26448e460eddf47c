terraform import byok_pool.openai 11111111-2222-4333-8444-555555555555/openai

# in the workspace of the provider
terraform import byok_pool.openai openai

# of an organization
terraform import byok_pool.shared organization/org-7f3a/openai
