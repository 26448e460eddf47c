#!/usr/bin/env bash
# Prints the CLI configuration that makes Terraform and OpenTofu use the provider
# in a folder, and the commands that install it for "terraform init". It writes
# nothing.
set -euo pipefail

platform=$(go env GOOS)_$(go env GOARCH)

cat <<TEXT
Built $1/terraform-provider-byok and $1/byok-server. To find them by name:

export PATH="$1:\$PATH"

To use this provider, paste this into ~/.terraformrc (OpenTofu: ~/.tofurc; on
Windows %APPDATA%\\terraform.rc), or into a file that TF_CLI_CONFIG_FILE names:

provider_installation {
  dev_overrides {
    "registry.terraform.io/terraform-provider-byok/byok" = "$1"
    "registry.opentofu.org/terraform-provider-byok/byok" = "$1"
  }
  direct {}
}

With an override, skip "terraform init": it looks the provider up in the
registry. "terraform plan" and "terraform apply" work without it, and warn that
an override is in effect. If they ask for "terraform init" instead, it is not.

A configuration with a backend, with modules or with other providers needs init.
For that, remove the override and put the provider into the plugin directory (on
Windows %APPDATA%\\terraform.d\\plugins; OpenTofu: registry.opentofu.org):

  plugins=~/.terraform.d/plugins/registry.terraform.io/terraform-provider-byok/byok/0.0.1/$platform
  mkdir -p "\$plugins"
  cp "$1/terraform-provider-byok" "\$plugins/terraform-provider-byok_v0.0.1"

After another build, copy it again and remove .terraform.lock.hcl, which has the
checksum of the earlier one.
TEXT
