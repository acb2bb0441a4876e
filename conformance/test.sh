#!/usr/bin/env bash
# The one test command: installs what the suite needs, then runs everything.
#
#   bash conformance/test.sh                   everything, as the gate runs it
#   bash conformance/test.sh --quick           without lint and race detector
#   bash conformance/test.sh --campaign NAME   a long run; --campaign list names them
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LINT=v2.15.0
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/signet"
BEGUN=$SECONDS
FAILED=()
PASSED=()

say() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - BEGUN)); }

# stage NAME COMMAND... runs one stage; a failure is noted and the rest goes on.
stage() {
  local name=$1 begun=$SECONDS
  shift
  say "$name"
  if "$@"; then PASSED+=("$name  $((SECONDS - begun)) s"); else FAILED+=("$name"); fi
}

# packages installs Debian packages whose command is missing.
packages() {
  local missing=()
  command -v softhsm2-util >/dev/null || missing+=(softhsm2)
  command -v ssh-keygen >/dev/null || missing+=(openssh-client)
  command -v protoc >/dev/null || missing+=(protobuf-compiler)
  command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  command -v git >/dev/null || missing+=(git)
  command -v curl >/dev/null || missing+=(curl)
  [ ${#missing[@]} -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; hint: install them with your package manager" >&2
    return 1
  fi
  local sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  echo "installing: ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get update -qq </dev/null
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq "${missing[@]}" </dev/null >/dev/null
}

# lint_build builds the linter once, outside go.mod: it has more dependencies
# than signet.
lint_build() {
  [ -x "$CACHE/golangci-lint-$LINT" ] && return 0
  mkdir -p "$CACHE"
  local dir
  dir=$(mktemp -d)
  GOBIN=$dir go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$LINT" &&
    mv "$dir/golangci-lint" "$CACHE/golangci-lint-$LINT"
  rm -rf "$dir"
}

format() {
  local bad
  bad=$(git ls-files -z -- '*.go' | xargs -0 gofmt -l)
  [ -z "$bad" ] || { echo "not gofmt-ed: $bad" >&2; return 1; }
}

# generated writes the protobuf code anew and compares it, whatever else is
# uncommitted.
generated() {
  local before after
  before=$(cat plugins/api/v1/*.pb.go daemon/api/v1/*.pb.go | sha256sum)
  bash conformance/generate.sh
  after=$(cat plugins/api/v1/*.pb.go daemon/api/v1/*.pb.go | sha256sum)
  [ "$before" = "$after" ] || { echo "generated code was stale; hint: commit what conformance/generate.sh wrote" >&2; return 1; }
}

portable() { CGO_ENABLED=0 go vet $(go list ./... | grep -v -e /signers/pkcs11 -e /conformance/bench); }

lint() { lint_build && "$CACHE/golangci-lint-$LINT" run ./...; }

# tests runs go test and counts what ran from its own event stream.
tests() {
  local log status=0
  log=$(mktemp)
  go test -json -shuffle=on "$@" ./... </dev/null >"$log" || status=$?
  go run ./conformance/cmd/failures <"$log"
  COUNT_PASS=$(grep -ac '"Action":"pass".*"Test":' "$log" || true)
  COUNT_FAIL=$(grep -ac '"Action":"fail".*"Test":' "$log" || true)
  COUNT_SKIP=$(grep -ac '"Action":"skip".*"Test":' "$log" || true)
  rm -f "$log"
  return $status
}

demo() {
  local bin status=0
  bin=$(mktemp -d)
  go build -o "$bin/signet" ./daemon/cmd/signet &&
    "$bin/signet" demo && "$bin/signet" demo --signer pkcs11 --json >/dev/null || status=1
  rm -rf "$bin"
  return $status
}

campaign() {
  case "$1" in
  list) echo "fuzz   each fuzz target for FUZZ_TIME (60s)"; echo "bench  the benchmarks; compare with conformance/bench/README.md" ;;
  fuzz)
    local all=() i=0
    while IFS=: read -r file target; do all+=("$(dirname "$file") $target"); done < <(grep -roE 'func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed 's/func //')
    mkdir -p conformance/campaigns
    { echo "# Campaign fuzz, $(date -u +%F)"; echo; echo "Each target for ${FUZZ_TIME:-60s}."; echo; } >conformance/campaigns/fuzz.md
    for entry in "${all[@]}"; do
      read -r dir target <<<"$entry"
      i=$((i + 1))
      echo "$i/${#all[@]} $dir $target"
      if go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZ_TIME:-60s}" "$dir"; then echo "- $target in $dir: held" >>conformance/campaigns/fuzz.md
      else echo "- $target in $dir: FAILED" >>conformance/campaigns/fuzz.md; FAILED+=("$target"); fi
    done
    [ ${#FAILED[@]} -eq 0 ] ;;
  bench) go test -run '^$' -bench . ./conformance/bench ;;
  *) echo "campaign $1 is not known; hint: --campaign list" >&2; return 2 ;;
  esac
}

summary() {
  say "summary"
  [ ${#PASSED[@]} -eq 0 ] || printf '  ok      %s\n' "${PASSED[@]}"
  [ ${#FAILED[@]} -eq 0 ] || printf '  FAILED  %s\n' "${FAILED[@]}"
  printf '%d passed, %d failed, %d skipped\n' "${COUNT_PASS:-0}" "$((${COUNT_FAIL:-0} + ${#FAILED[@]}))" "${COUNT_SKIP:-0}"
  [ ${#FAILED[@]} -eq 0 ]
}

main() {
  say "packages"
  packages
  # What is installed here must be used: a missing SoftHSM is a failure.
  export REQUIRE_SOFTHSM=1
  case "${1:-}" in
  --campaign) campaign "${2:-list}"; return ;;
  --quick) stage "tests" tests; summary; return ;;
  "") ;;
  *) echo "usage: test.sh [--quick | --campaign NAME]" >&2; return 2 ;;
  esac
  stage "build" go build ./...
  stage "format" format
  stage "generated code" generated
  stage "vet" go vet ./...
  stage "without cgo" portable
  stage "modules" go mod tidy -diff
  stage "tests, race detector" tests -race
  stage "demo, softkey and SoftHSM" demo
  stage "lint" lint
  summary
}

main "$@"
