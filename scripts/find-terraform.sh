#!/usr/bin/env bash
# Prints the path of the terraform or tofu binary: the one that TERRAFORM names,
# or the first of both on the PATH. internal/testkit/tfrun finds the same one.
set -euo pipefail

for name in ${TERRAFORM:-terraform tofu}; do
  if path=$(command -v "$name"); then
    realpath -s "$path"
    exit 0
  fi
done
echo "cannot find ${TERRAFORM:-terraform or tofu}: install Terraform 1.11 or OpenTofu 1.11, or later, or name the binary: make ... TERRAFORM=PATH" >&2
exit 1
