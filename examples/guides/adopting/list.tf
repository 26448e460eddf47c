data "byok_keys" "all" {}

output "keys" {
  value = data.byok_keys.all.keys
}

# One import block for each key, ready to be saved as a file.
output "import_blocks" {
  value = join("\n", [for i, key in data.byok_keys.all.keys : <<-EOT
    import {
      to = byok_key.${key.provider_id}_${i + 1}
      id = "${key.import_id}"
    }
  EOT
  ])
}
