# Asks the reference server for keys, as workflow runs do, at least 10 times and
# until each of api_keys was served. Fails if anything else is served, or nothing.

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
      WANT = join("\n", sort(var.api_keys))
      ASK  = jsonencode({ providerId = var.provider_id })
    }
    command = <<-EOT
      served=""
      for n in $(seq 200); do
        response=$(curl -fsS "$BYOK_ENDPOINT/reference/resolve" -H "Authorization: Bearer $INTERNAL_API_SECRET" \
          -H 'Content-Type: application/json' -d "{\"workspaceId\":\"$BYOK_WORKSPACE_ID\",$${ASK#?}")
        key=$(echo "$response" | sed -E 's/.*"apiKey":"([^"]*)".*/\1/')
        if ! grep -Fqx -- "$key" <<< "$WANT"; then
          echo "wrongly served: $key"
          exit 1
        fi
        served=$(printf '%s\n' "$served" "$key" | grep . | sort -u)
        if [ "$n" -ge 10 ] && [ "$served" = "$WANT" ]; then exit 0; fi
      done
      echo "never served: $(comm -23 <(echo "$WANT") <(echo "$served"))"
      exit 1
    EOT
  }
}
