# Which AI providers this workspace reaches with the keys of its organization.
data "byok_inherited_providers" "this" {}

output "inherited" {
  value = data.byok_inherited_providers.this.provider_ids
}
