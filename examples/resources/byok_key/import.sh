terraform import byok_key.openai 11111111-2222-4333-8444-555555555555/openai/V1StGXR8_Z5jdHi6B-myT

# without the provider ID
terraform import byok_key.openai 11111111-2222-4333-8444-555555555555/V1StGXR8_Z5jdHi6B-myT

# in the workspace of the provider
terraform import byok_key.openai V1StGXR8_Z5jdHi6B-myT

# of an organization
terraform import byok_key.shared organization/org-7f3a/openai/V1StGXR8_Z5jdHi6B-myT
