variables {
  provider_id = "openai"
  pools = {
    production = { workspace_id = "11111111-2222-4333-8444-555555555555", keys = { primary = 1, spare = 1 } }
    staging    = { workspace_id = "66666666-7777-4888-9999-000000000000", keys = { primary = 1 } }
  }
  secrets = {
    production = { primary = "sk-test-primary-0001", spare = "sk-test-spare-0002" }
    staging    = { primary = "sk-test-staging-0003" }
  }
}

run "add" {
  assert {
    condition     = length(output.keys) == 3
    error_message = "A declared key is missing."
  }
  assert {
    condition     = output.keys["production/primary"].masked_key == "sk-tes...0001"
    error_message = "The wrong secret is stored."
  }
}

run "replace_in_place" {
  variables {
    pools = {
      production = { workspace_id = "11111111-2222-4333-8444-555555555555", keys = { primary = 2, spare = 1 } }
    }
    secrets = {
      production = { primary = "sk-test-primary-1001", spare = "any value" }
    }
    # For the first assert: OpenTofu knows run.* in variables only.
    before = run.add.keys
  }

  assert {
    condition     = output.keys["production/primary"].id == var.before["production/primary"].id
    error_message = "The key was not replaced in place."
  }
  assert {
    condition     = output.keys["production/primary"].masked_key == "sk-tes...1001"
    error_message = "The new secret is not stored."
  }
  assert {
    condition     = output.keys["production/spare"].masked_key == "sk-tes...0002"
    error_message = "A secret was uploaded although its version is the same."
  }
}

run "eleven_keys" {
  command = plan

  variables {
    pools = {
      production = { workspace_id = "11111111-2222-4333-8444-555555555555", keys = { for n in range(11) : "key${n}" => 1 } }
    }
  }

  expect_failures = [var.pools]
}
