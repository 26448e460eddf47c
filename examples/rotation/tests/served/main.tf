# Asks the reference server for a key, as a workflow run does, until each of
# api_keys has had its turn twice. Fails if anything else is served, or nothing.

variable "provider_id" {
  type = string
}

variable "api_keys" {
  type = list(string)
}

resource "terraform_data" "served" {
  triggers_replace = timestamp()

  provisioner "local-exec" {
    interpreter = ["bash", "-euo", "pipefail", "-c"]
    environment = {
      WANT = join("\n", sort(concat(var.api_keys, var.api_keys)))
      ASK  = jsonencode({ providerId = var.provider_id })
      N    = 2 * length(var.api_keys)
    }
    command = <<-EOT
      served=$(for _ in $(seq "$N"); do
        curl -fsS "$BYOK_ENDPOINT/reference/resolve" -H "Authorization: Bearer $INTERNAL_API_SECRET" \
          -H 'Content-Type: application/json' -d "{\"workspaceId\":\"$BYOK_WORKSPACE_ID\",$${ASK#?}" |
          sed -E 's/.*"apiKey":"([^"]*)".*/\1/'
        echo
      done | grep . | sort)
      diff <(echo "$WANT") <(echo "$served")
    EOT
  }
}
