data "byok_workspaces" "all" {}

# One workspace, by its name. An error lists the names if there is none.
data "byok_workspaces" "production" {
  name = "Production"
}

# The same key in every workspace that the user may manage.
resource "byok_key" "everywhere" {
  for_each = { for workspace in data.byok_workspaces.all.workspaces : workspace.id => workspace if workspace.permission == "admin" }

  workspace_id = each.key
  provider_id  = "openai"
  name         = "shared by Terraform"
  api_key_wo   = var.openai_api_key
}

output "production" {
  value = one(data.byok_workspaces.production.workspaces).id
}

variable "openai_api_key" {
  type      = string
  ephemeral = true
}
