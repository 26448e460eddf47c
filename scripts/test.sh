#!/usr/bin/env bash
# Runs the tests: all of them with the race detector, or those of the inner loop
# (quick), or the acceptance tests of the provider (acceptance). More arguments
# go to go test. What cannot run on this machine is said in one line; under
# CI=true it is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() {
  if [ "${CI:-}" = true ]; then
    echo "FAIL: $1" >&2
    exit 1
  fi
  echo "NOT RUN: $1" >&2
}

has_postgres() {
  command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

export CHECKPOINT_DISABLE=1 TF_CLI_CONFIG_FILE=/dev/null
unset TF_ACC TF_LOG TF_LOG_CORE TF_LOG_PROVIDER TF_LOG_PATH
for variable in $(compgen -e | grep '^BYOK_' | grep -v '^BYOK_ACC_' || true); do unset "$variable"; done

what=all
case "${1:-}" in quick | acceptance) what=$1 && shift ;; esac

# Garbage is collected less often, by the tests and by all that they start and build:
# a tenth of the time, for twice the memory.
export GOGC=400
# The race detector watches all but four packages that compute for long and share
# nothing: SQLite (C that was translated to Go), and what reads large keys.
race=(-race)
for computes in modernc.org/sqlite/lib modernc.org/libc compress/flate encoding/hex; do
  race+=("-gcflags=$computes=-race=false")
done
# It waits a second at the end of each test binary, unless told otherwise.
export GORACE=atexit_sleep_ms=50

if [ "$what" = quick ]; then
  # internal/e2e needs Terraform or takes minutes.
  mapfile -t packages < <(go list ./... | grep -v /internal/e2e/)
  # These tests wait more than they compute.
  exec go test -short -parallel 8 "$@" "${packages[@]}"
fi

if TERRAFORM=$(scripts/find-terraform.sh); then
  export TERRAFORM TF_ACC=1
else
  unset TERRAFORM
  missing "acceptance tests: no terraform or tofu (1.11 or later is needed)"
fi

if [ "$what" = acceptance ]; then
  # On another server, test binaries share its workspaces.
  exec go test "${race[@]}" -count=1 -timeout 60m ${BYOK_ACC_ENDPOINT:+-p 1} "$@" ./internal/provider/... ${BYOK_ACC_ENDPOINT:+./internal/e2e/cap/...}
fi

has_postgres || missing "PostgreSQL tests: no initdb on the PATH or in /usr/lib/postgresql (15 or later is needed)"

command -v chromium-headless-shell chromium google-chrome >/dev/null ||
  missing "browser tests: no chromium on the PATH (Debian's package chromium-headless-shell or chromium)"

BYOK_FIGURES=$(mktemp)
BYOK_TEST_BIN=$(mktemp -d) # programs and a cluster of PostgreSQL that all packages share
export BYOK_FIGURES BYOK_TEST_BIN
trap 'rm -rf "$BYOK_FIGURES" "$BYOK_TEST_BIN"; rmdir /dev/shm/byok-tests 2>/dev/null || true' EXIT
CGO_ENABLED=0 go build -trimpath -o "$BYOK_TEST_BIN/" . ./cmd/byok-server
# Where memory is plenty, the files of the tests stay in it. All runs share the
# folder, so that the next one finds what a killed one has left (pgtest).
memory=$(df --output=avail -B1G /dev/shm 2>/dev/null | tail -1 || true)
if [ "${memory:-0}" -ge 8 ] && install -d -m 1777 /dev/shm/byok-tests; then
  export GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}} TMPDIR=/dev/shm/byok-tests
fi
# The packages that take longest begin first, so that none is left alone at the
# end. -vet=all is go vet, without compiling everything once more; -trimpath lets
# each clone use what another one has compiled.
# Four at a time, as browsers and databases leave cores idle.
go test "${race[@]}" -trimpath -p 4 -vet=all -timeout 40m "$@" ./internal/provider ./internal/e2e/... ./internal/server/settings ./internal/server/... ./...
go test -C tools/policy ./...
go test -C tools/image ./...
echo
sort "$BYOK_FIGURES"
