# Runs against a server of its own, see github-actions/test.yml. The state of a
# test is in memory, and its keys are destroyed at the end.

run "add" {
  assert {
    condition     = { for name, key in byok_pool.openai.keys : name => key.name } == { primary = "primary", spare = "spare" }
    error_message = "A declared key is missing."
  }
}

run "plan_again" {
  command = plan

  variables {
    before = run.add.keys # OpenTofu knows run.* in variables only
  }

  assert {
    condition     = { for name, key in byok_pool.openai.keys : name => key.id } == { for name, key in var.before : name => key.id }
    error_message = "The plan replaces a key."
  }
}
