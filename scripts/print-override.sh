#!/usr/bin/env bash
# Prints the CLI configuration that makes Terraform and OpenTofu use the provider
# in a folder. It writes nothing.
set -euo pipefail

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
an override is in effect. A configuration that uses other providers too needs
init for those, without the override.
TEXT
