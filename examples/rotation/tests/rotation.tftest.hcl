# Runs against a reference server of its own: BYOK_ENDPOINT, BYOK_WORKSPACE_ID and
# BYOK_SESSION_TOKEN for the provider, INTERNAL_API_SECRET to ask for keys as Sim does.

variables {
  provider_id = "openai"
  secrets     = {} # only new generations need theirs
}

# What a run compares with an earlier one is in its variable "before": OpenTofu knows
# run.* in variables only, and of the runs of a module only the last one that applied.

run "first_generation" {
  variables {
    generations = { "2026-q3" = { retire_after = "2999-12-15" } }
    secrets     = { "2026-q3" = "sk-test-2026-q3" }
  }
}

run "first_is_served" {
  variables {
    api_keys = ["sk-test-2026-q3"]
  }
  module {
    source = "./tests/served"
  }
}

run "both_generations" {
  variables {
    generations = {
      "2026-q3" = { retire_after = "2999-12-15" }
      "2026-q4" = { retire_after = "2999-12-31" }
    }
    secrets = { "2026-q4" = "sk-test-2026-q4" }
    before  = run.first_generation.keys
  }

  assert {
    condition     = output.keys["2026-q3"] == var.before["2026-q3"]
    error_message = "The first generation was touched."
  }
}

run "both_are_served" {
  variables {
    api_keys = ["sk-test-2026-q3", "sk-test-2026-q4"]
  }
  module {
    source = "./tests/served"
  }
}

run "first_retires" {
  variables {
    generations = { "2026-q4" = { retire_after = "2999-12-31" } }
    before      = run.both_generations.keys
  }

  assert {
    condition     = output.keys == { "2026-q4" = var.before["2026-q4"] }
    error_message = "The second generation was touched, or the first one is still there."
  }
}

# From here on it is safe to revoke the first generation at the AI provider.
run "second_is_served" {
  variables {
    api_keys = ["sk-test-2026-q4"]
  }
  module {
    source = "./tests/served"
  }
}

run "overdue" {
  command = plan

  variables {
    generations = { "2026-q4" = { retire_after = "2000-01-01" } }
    before      = run.first_retires.keys
  }

  assert {
    condition     = output.keys == var.before
    error_message = "A date changes the pool."
  }

  expect_failures = [check.retirement, check.successor]
}

run "no_successor" {
  command = plan

  variables {
    generations = { "2026-q4" = { retire_after = "2200-12-31" } }
    notice_days = 100000
  }

  expect_failures = [check.successor]
}

run "no_date" {
  command = plan

  variables {
    generations = { "2026-q4" = { retire_after = "soon" } }
  }

  expect_failures = [var.generations]
}
