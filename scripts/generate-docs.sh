#!/usr/bin/env bash
# Writes docs/ from templates/, examples/ and the provider's schema. Terraform
# reads the schema from the provider just built, through a local mirror.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cli=$(scripts/find-terraform.sh)
host=registry.terraform.io
if "$cli" version | grep -q '^OpenTofu'; then host=registry.opentofu.org; fi
address=$host/terraform-provider-byok/byok
platform=$(go env GOOS)_$(go env GOARCH)
mkdir -p "$work/mirror/$address/0.0.1/$platform" "$work/config"
go build -o "$work/mirror/$address/0.0.1/$platform/terraform-provider-byok_v0.0.1" .

cat > "$work/terraform.rc" <<RC
provider_installation {
  filesystem_mirror {
    path = "$work/mirror"
  }
}
RC
cat > "$work/config/main.tf" <<TF
terraform {
  required_providers {
    byok = {
      source = "terraform-provider-byok/byok"
    }
  }
}
TF

export TF_CLI_CONFIG_FILE="$work/terraform.rc" CHECKPOINT_DISABLE=1
"$cli" fmt -recursive examples >/dev/null
"$cli" -chdir="$work/config" init -no-color >/dev/null
"$cli" -chdir="$work/config" providers schema -json |
  sed "s#\"$address\"#\"byok\"#" | # tfplugindocs looks the provider up by its short name
  go run ./internal/docschema > "$work/schema.json"
go tool -modfile=tools/go.mod tfplugindocs generate \
  --provider-name byok --rendered-provider-name BYOK --providers-schema "$work/schema.json"
go tool -modfile=tools/go.mod tfplugindocs validate \
  --provider-name terraform-provider-byok --providers-schema "$work/schema.json"
