#!/usr/bin/env bash
# Prints the share of statements that tests run, per package, and fails where a
# package that decides what happens to keys is below the floor. The tests of
# every package count, without those that start Terraform's processes.
set -euo pipefail
cd "$(dirname "$0")/.."

floor=85
held='internal/(byok|client|ledger|provider|server/rotation|server/seal|server/keystore(/sqlite|/postgres)?)$'

profile=$(mktemp)
said=$(mktemp)
trap 'rm -f "$profile" "$said"' EXIT
unset TF_ACC
mapfile -t packages < <(go list ./internal/... | grep -v '/internal/\(e2e\|testkit\|demo\|bench\|doctest\)')
GOGC=400 go test -coverprofile "$profile" -coverpkg "$(IFS=, && echo "${packages[*]}")" "$@" "${packages[@]}" ./internal/testkit/... ./internal/e2e/... >"$said" ||
  { grep -vE '^ok |no test files|coverage:' "$said" >&2; exit 1; }

# A block is in the profile once for each test binary.
awk -v module="$(go list -m)/" -v floor="$floor" -v held="$held" '
  NR > 1 {
    if (!($1 in statements)) statements[$1] = $2
    if ($3 > 0) run[$1] = 1
  }
  END {
    for (block in statements) {
      package = block
      sub(/\/[^\/]*$/, "", package)
      sub(module, "", package)
      all[package] += statements[block]
      if (block in run) hit[package] += statements[block]
    }
    for (package in all) {
      share = 100 * hit[package] / all[package]
      low = package ~ held && share < floor
      if (low) failed = 1
      printf "%5.1f %%  %s%s\n", share, package, low ? "  below " floor " %" : "" | "sort -k3"
    }
    close("sort -k3")
    exit failed
  }' "$profile"
