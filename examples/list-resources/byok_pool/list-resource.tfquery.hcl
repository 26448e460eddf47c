# Every pool of every workspace that the user has.
list "byok_pool" "every" {
  provider = byok
  limit    = 1000

  config {
    workspace_ids = ["*"]
  }
}
