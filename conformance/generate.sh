#!/usr/bin/env bash
# Writes the generated protobuf code. conformance/test.sh runs it and fails when
# the result differs from what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
for dir in plugins/api/v1 daemon/api/v1; do
  protoc --plugin="$bin/protoc-gen-go" --plugin="$bin/protoc-gen-go-grpc" -I "$dir" \
    --go_out="$dir" --go_opt=paths=source_relative \
    --go-grpc_out="$dir" --go-grpc_opt=paths=source_relative "$dir"/*.proto
done
