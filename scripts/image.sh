#!/usr/bin/env bash
# Builds the container image of byok-server without a container engine.
#
# Usage: scripts/image.sh save VERSION FILE.tar        for `docker load`, this platform
#        scripts/image.sh push REPOSITORY VERSION      linux/amd64 and linux/arm64
set -euo pipefail
cd "$(dirname "$0")/.."

build() { # ARCH
  CGO_ENABLED=0 GOOS=linux GOARCH=$1 go build -trimpath -ldflags "-s -w -buildid= -X main.version=$version" \
    -o "$work/byok-server-$1" ./cmd/byok-server
}

usage() {
  sed -n '4,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[ $# -eq 3 ] || usage
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
created=$(git log -1 --format=%ct)
case $1 in
save)
  version=$2
  arch=$(go env GOARCH)
  build "$arch"
  go run -C tools/image . --version "$version" --created "$created" --output "$(realpath "$3")" \
    save "linux/$arch=$work/byok-server-$arch"
  ;;
push)
  version=$3
  build amd64
  build arm64
  go run -C tools/image . --repository "$2" --version "$version" --created "$created" \
    push "linux/amd64=$work/byok-server-amd64" "linux/arm64=$work/byok-server-arm64"
  ;;
*) usage ;;
esac
