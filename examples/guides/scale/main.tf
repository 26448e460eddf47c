variable "secrets" {
  description = "Secrets, by workspace ID and name of the key."
  type        = map(map(string))
  sensitive   = true
  ephemeral   = true
}

variable "pools" {
  description = "Names of the keys, by workspace ID."
  type        = map(set(string))
}

module "openai" {
  source   = "./pool"
  for_each = var.pools

  workspace_id = each.key
  names        = each.value
  secrets      = var.secrets[each.key]
}
