#!/usr/bin/env bash
# Runs every test with the race detector. What cannot run on this machine is
# said in one line; under CI=true it is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() {
  if [ "${CI:-}" = true ]; then
    echo "FAIL: $1" >&2
    exit 1
  fi
  echo "NOT RUN: $1" >&2
}

export CHECKPOINT_DISABLE=1 TF_CLI_CONFIG_FILE=/dev/null
unset TF_LOG TF_LOG_CORE TF_LOG_PROVIDER TF_LOG_PATH
for variable in $(compgen -e | grep '^BYOK_' || true); do unset "$variable"; done

if terraform=$(command -v terraform); then
  export TF_ACC=1 TF_ACC_TERRAFORM_PATH="$terraform"
else
  unset TF_ACC
  missing "acceptance tests: no terraform on the PATH (1.11 or later is needed)"
fi

has_postgres() {
  command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}
has_postgres || missing "PostgreSQL tests: no initdb on the PATH or in /usr/lib/postgresql (15 or later is needed)"

command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
  missing "browser tests: no chromium on the PATH (Debian's package chromium)"

go vet ./...

BYOK_FIGURES=$(mktemp)
export BYOK_FIGURES
trap 'rm -f "$BYOK_FIGURES"' EXIT
go test -race -timeout 40m "$@" ./...
echo
sort "$BYOK_FIGURES"
