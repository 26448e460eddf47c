#!/usr/bin/env bash
# Checks the files of a release: signature, checksums over all archives, an
# SBOM per archive, what the archives of byok-server hold, the version that the
# binaries for this platform print.
#
# Usage: scripts/verify-release.sh [--unsigned] FOLDER
#
# FOLDER has the files as `gh release download` leaves them, or is the dist/ of
# goreleaser. --unsigned skips the signature, for a snapshot.
set -euo pipefail

signed=true
if [ "${1:-}" = --unsigned ]; then
  signed=false
  shift
fi
if [ $# -ne 1 ] || [ ! -d "$1" ]; then
  sed -n '6,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
cd "$1"

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

shopt -s nullglob
sums=(terraform-provider-byok_*_SHA256SUMS)
[ ${#sums[@]} -eq 1 ] || fail "expected one terraform-provider-byok_VERSION_SHA256SUMS in $1, found ${#sums[@]}"
sums=${sums[0]}
version=${sums#terraform-provider-byok_}
version=${version%_SHA256SUMS}

if $signed; then
  [ -f "$sums.sig" ] || fail "$sums.sig is missing"
  gpg --batch --verify "$sums.sig" "$sums" || fail "the signature of $sums does not verify"
  echo "ok: signature of $sums"
fi

archives=(*.zip *.tar.gz)
[ ${#archives[@]} -gt 0 ] || fail "there is no archive"
for archive in "${archives[@]}"; do
  grep -qE "^[0-9a-f]{64}  $archive\$" "$sums" || fail "$sums does not list $archive"
  [ -s "$archive.sbom.json" ] || fail "$archive has no SBOM ($archive.sbom.json)"
done
manifest=terraform-provider-byok_${version}_manifest.json
grep -q "  $manifest\$" "$sums" || fail "$sums does not list $manifest"
# goreleaser uploads the manifest under this name, but leaves the file where it was.
if [ ! -f "$manifest" ] && ! $signed; then
  cp ../terraform-registry-manifest.json "$manifest"
fi
sha256sum --check --strict --quiet "$sums" || fail "a checksum does not match"
echo "ok: ${#archives[@]} archives, each with a checksum and an SBOM"

for archive in byok-server_*.tar.gz byok-server_*.zip; do
  case $archive in
  *.zip) held=$(unzip -Z1 "$archive") ;;
  *) held=$(tar -tzf "$archive") ;;
  esac
  for file in LICENSE man/byok-server.1 man/byok-server-serve.1 completions/byok-server.{bash,zsh,fish,ps1}; do
    grep -qxF "$file" <<<"$held" || fail "$archive does not hold $file"
  done
done
echo "ok: the archives of byok-server hold manual pages and completion"

grep -q '"protocol_versions": \["6.0"\]' "$manifest" || fail "$manifest does not name protocol 6.0"

case $(uname -sm) in
"Linux x86_64") platform=linux_amd64 ;;
"Linux aarch64") platform=linux_arm64 ;;
"Darwin x86_64") platform=darwin_amd64 ;;
"Darwin arm64") platform=darwin_arm64 ;;
*) fail "no archive is known for $(uname -sm)" ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unzip -q "terraform-provider-byok_${version}_$platform.zip" -d "$work"
[ "$(ls "$work")" = "terraform-provider-byok_v$version" ] || fail "the provider's archive holds more than terraform-provider-byok_v$version"
tar -xzf "byok-server_${version}_$platform.tar.gz" -C "$work"
"$work/byok-server" --version | grep -qF "$version" || fail "byok-server does not print version $version"
"$work/terraform-provider-byok_v$version" -version | grep -qF "$version" || fail "the provider does not print version $version"
echo "ok: both programs print version $version"
