data "byok_keys" "all" {}

output "keys" {
  value = data.byok_keys.all.keys
}
