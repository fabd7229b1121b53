#!/usr/bin/env bash
# Static binaries and Debian packages.
#
#   deploy/package.sh [ARCHITECTURE...]     amd64 and arm64 unless named
#
# Environment: VERSION (default: the tag, or else date and commit), OUT (default:
# bin), MAINTAINER ("Name <address>" of who publishes the package).
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-bin}
if [ -z "${VERSION:-}" ]; then
  VERSION=$(git describe --exact-match --tags --match 'v*' 2>/dev/null) ||
    VERSION=0.0.0~git$(git log -1 --format=%cd.%h --date=format:%Y%m%d)
fi
VERSION=${VERSION#v}
[[ $VERSION =~ ^[0-9][A-Za-z0-9.+~]*$ ]] || { echo "VERSION: $VERSION is no version of Debian's without a revision" >&2; exit 2; }
export VERSION
export MAINTAINER="${MAINTAINER:-weir <root@localhost>}"
# All files get the time of the commit: the same commit makes the same package.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export CGO_ENABLED=0
# An empty GOFLAGS shares the build cache with go test.
export GOFLAGS="${GOFLAGS--trimpath}"

STAGE=$(mktemp -d)
export STAGE
trap 'rm -rf "$STAGE"' EXIT
mkdir -p "$out" "$STAGE/completion"

# nfpm has a go.mod of its own: it is in no binary, and its modules are many.
go build -modfile=deploy/nfpm.mod -o "$STAGE/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
build() { GOOS=linux GOARCH=$2 go build -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o "$1" ./cmd/weir; }

build "$STAGE/here" "$(go env GOHOSTARCH)"
for shell in bash zsh fish; do
  "$STAGE/here" completion $shell >"$STAGE/completion/$shell"
done
gzip -9nc CHANGELOG.md >"$STAGE/changelog.gz"

[ $# -gt 0 ] || set -- amd64 arm64
for ARCH; do
  export ARCH
  build "$STAGE/weir" "$ARCH"
  cp "$STAGE/weir" "$out/weir-linux-$ARCH"
  "$STAGE/nfpm" package --config deploy/nfpm.yaml --packager deb --target "$out/weir_${VERSION}_$ARCH.deb"
done
