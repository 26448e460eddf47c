#!/usr/bin/env bash
# Writes what the archives of byok-server hold beside the program: the manual
# pages and the shell completion. The same commit gives the same bytes.
#
# Usage: scripts/server-extras.sh VERSION SECONDS-SINCE-1970 FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 3 ]; then
  sed -n '5s/^# //p' "$0" >&2
  exit 2
fi
folder=$3
rm -rf "$folder"
mkdir -p "$folder/man" "$folder/completions"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The release builds for many platforms; this one runs here.
CGO_ENABLED=0 env -u GOOS -u GOARCH go build -trimpath -ldflags "-X main.version=$1" -o "$work/byok-server" ./cmd/byok-server
TZ=UTC SOURCE_DATE_EPOCH=$2 "$work/byok-server" man "$folder/man"
for shell in bash zsh fish powershell; do
  "$work/byok-server" completion "$shell" > "$folder/completions/byok-server.$shell"
done
mv "$folder/completions/byok-server.powershell" "$folder/completions/byok-server.ps1"
