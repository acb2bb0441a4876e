#!/usr/bin/env bash
# Writes the generated protobuf code: in place, or below the directory that it
# is given. conformance/test.sh compares the one with the other.
set -euo pipefail
out=${1:-}
[ -z "$out" ] || out=$(cd "$out" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${out:-$PWD}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
for dir in signers/api/v1 plugins/api/v1 daemon/api/v1; do
  mkdir -p "$out/$dir"
  protoc --plugin="$bin/protoc-gen-go" --plugin="$bin/protoc-gen-go-grpc" -I "$dir" \
    --go_out="$out/$dir" --go_opt=paths=source_relative \
    --go-grpc_out="$out/$dir" --go-grpc_opt=paths=source_relative "$dir"/*.proto
done
