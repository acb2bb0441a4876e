#!/usr/bin/env bash
# The one test command: installs what the suites need, then runs everything.
#
#   bash conformance/test.sh                  everything, as the gate runs it
#   bash conformance/test.sh --quick          build, vet and tests; no race detector, no lint
#   bash conformance/test.sh --campaign NAME  a long run; --campaign list names them
#
# SEED=N runs the tests in the order, and the campaigns with the numbers, of an
# earlier run. It ends in a line "N passed, N failed, N skipped" and exits 0
# only if nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

readonly LINT=v2.15.0
readonly CACHE="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/signet"
readonly SEED="${SEED:-$(date +%s)}"
# What is installed below must be used: a missing SoftHSM is a failure.
export REQUIRE_SOFTHSM=1 REQUIRE_OPENSSH=1 REQUIRE_VERIFIERS=1
# openCryptoki has one configuration and one daemon for the machine: only root
# can set it up. The daemon is stopped again if it was not there before.
SLOTD=1
if [ "$(id -u)" -eq 0 ]; then
  export REQUIRE_OPENCRYPTOKI=1
  [ -f /run/pkcsslotd.pid ] || SLOTD=
fi

TMP=$(mktemp -d)
LINT_BUILD=
STAGES=()
FAILED=()
finish() {
  [ -z "$LINT_BUILD" ] || kill "$LINT_BUILD" 2>/dev/null || true
  if [ -z "$SLOTD" ] && [ -f /run/pkcsslotd.pid ]; then
    kill "$(cat /run/pkcsslotd.pid)" 2>/dev/null || true
  fi
  rm -rf "$TMP"
}
trap finish EXIT

# stage NAME COMMAND... runs one stage; a failure is noted and the rest goes on.
stage() {
  local name=$1 begun=$SECONDS
  shift
  printf '\n== %s (after %d s)\n' "$name" "$SECONDS"
  if "$@"; then
    STAGES+=("$(printf 'ok      %-28s %4d s' "$name" $((SECONDS - begun)))")
  else
    STAGES+=("$(printf 'FAILED  %-28s %4d s' "$name" $((SECONDS - begun)))")
    FAILED+=("$name")
  fi
}

# packages installs the Debian packages of commands that are missing.
packages() {
  local missing=()
  if ! command -v go >/dev/null; then
    echo "go is missing; hint: https://go.dev/dl has it" >&2
    return 1
  fi
  command -v softhsm2-util >/dev/null || missing+=(softhsm2)
  [ "$(id -u)" -ne 0 ] || command -v pkcsslotd >/dev/null || missing+=(opencryptoki)
  command -v protoc >/dev/null || missing+=(protobuf-compiler)
  command -v strace >/dev/null || missing+=(strace)
  [ -x /usr/sbin/sshd ] || missing+=(openssh-server)
  command -v ssh-keygen >/dev/null || missing+=(openssh-client)
  command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  /usr/bin/python3 -c 'import jwt, cryptography' 2>/dev/null || missing+=(python3-jwt python3-cryptography)
  # A plug-in in another language runs on Debian's own Python.
  /usr/bin/python3 -c 'import cbor2, cryptography, google.protobuf, grpc' 2>/dev/null ||
    missing+=(python3 python3-cbor2 python3-cryptography python3-protobuf python3-grpcio)
  [ ${#missing[@]} -eq 0 ] || debian "${missing[@]}" || return 1
  npm_packages
}

# npm_packages installs the verifiers for Node.js, as their lock file has them.
npm_packages() {
  local dir=conformance/verifiers/node
  cmp -s "$dir/package-lock.json" "$dir/node_modules/.signet-lock.json" && return 0
  if ! npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund >"$TMP/npm.log" 2>&1; then
    cat "$TMP/npm.log" >&2
    return 1
  fi
  cp "$dir/package-lock.json" "$dir/node_modules/.signet-lock.json"
}

# debian installs Debian packages.
debian() {
  local missing=("$@")
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo=(sudo -n)
  fi
  if ! command -v apt-get >/dev/null || { [ ${#sudo[@]} -gt 0 ] && ! sudo -n true 2>/dev/null; }; then
    echo "missing: ${missing[*]}; hint: run this once as root, or: apt-get install ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  if ! {
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  } >"$TMP/apt.log" 2>&1; then
    cat "$TMP/apt.log" >&2
    return 1
  fi
}

# lint_build builds the linter once for each version, apart from go.mod: it has
# more dependencies than signet. It starts first and yields to everything else.
lint_build() {
  [ ! -x "$CACHE/golangci-lint-$LINT" ] || return 0
  mkdir -p "$CACHE"
  GOBIN="$TMP/lint" GOFLAGS='' nice -n 19 go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$LINT" &&
    mv "$TMP/lint/golangci-lint" "$CACHE/golangci-lint-$LINT"
}

lint() {
  if ! wait "$LINT_BUILD"; then
    cat "$TMP/lint.log" >&2
    return 1
  fi
  LINT_BUILD=
  "$CACHE/golangci-lint-$LINT" run --allow-parallel-runners ./...
}

format() {
  local bad
  bad=$(gofmt -l conformance daemon examples keyring plugins signers)
  [ -z "$bad" ] || { printf 'not as gofmt writes it:\n%s\nhint: gofmt -w FILE\n' "$bad" >&2; return 1; }
}

# generated writes the protobuf code elsewhere and compares. The version of
# protoc is in the comments and makes no difference.
generated() {
  local code=0 file
  mkdir -p "$TMP/generated"
  bash conformance/generate.sh "$TMP/generated" || return 1
  for file in signers/api/v1/*.pb.go plugins/api/v1/*.pb.go daemon/api/v1/*.pb.go; do
    diff -u -I '^// [-	]* *protoc ' "$file" "$TMP/generated/$file" || code=1
  done
  [ "$code" -eq 0 ] || echo "generated code is stale; hint: bash conformance/generate.sh" >&2
  return "$code"
}

# portable builds what can be built without a C compiler: all but the HSM.
portable() {
  local all
  mapfile -t all < <(go list ./... | grep -v -e /signers/pkcs11 -e /conformance/bench -e /conformance/opencryptoki)
  CGO_ENABLED=0 go build "${all[@]}"
}

# tests runs go test; what came of each test is counted from its own events.
tests() {
  go build -o "$TMP/failures" ./conformance/cmd/failures || return 1
  echo "SEED=$SEED"
  go test -json -shuffle="$SEED" "$@" ./... | "$TMP/failures" -counts "$TMP/counts"
}

# fuzz_targets lists the fuzz targets, each with its folder.
fuzz_targets() {
  grep -rEo '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's,/[^/]*:func , ,' | sort
}

# fuzz gives each target FUZZ_TIME (10s), two at a time with a core each. What
# fails is kept in the target's testdata/fuzz and fails again: a run that only
# ended late on a busy machine does not.
fuzz() {
  local code=0
  mkdir -p "$TMP/fuzz"
  fuzz_targets | xargs -P 2 -L 1 bash -c '
    log="$0/${2//\//_}.$3.log"
    for try in 1 2; do
      if go test -run "^$" -fuzz "^$3\$" -fuzztime "$1" -parallel 1 "$2" >"$log" 2>&1; then
        tail -n 3 "$log" | sed -n "s,^fuzz: elapsed: ,$2 $3: ,p"
        exit 0
      fi
    done
    cat "$log" >&2
    exit 1' "$TMP/fuzz" "${FUZZ_TIME:-10s}" || code=1
  return "$code"
}

demo() {
  go build -o "$TMP/signet" ./daemon/cmd/signet || return 1
  "$TMP/signet" demo || return 1
  if ! "$TMP/signet" demo --signer pkcs11 --json >"$TMP/demo.json"; then
    cat "$TMP/demo.json" >&2
    return 1
  fi
  echo "the same on SoftHSM: every step held"
}

# ordinary runs the demo once more as a user who is nobody in particular: what
# only works for root must be seen.
ordinary() {
  if [ "$(id -u)" -ne 0 ]; then
    echo "that is how the demo ran"
    return 0
  fi
  [ -x "$TMP/signet" ] || return 1
  mkdir "$TMP/nobody"
  cp "$TMP/signet" "$TMP/nobody"
  chown -R 65534:65534 "$TMP/nobody"
  chmod 711 "$TMP"
  if ! (cd "$TMP/nobody" && setpriv --reuid=65534 --regid=65534 --clear-groups \
    env -i PATH="$PATH" TMPDIR=/tmp ./signet demo) >"$TMP/nobody.log" 2>&1; then
    cat "$TMP/nobody.log" >&2
    return 1
  fi
  grep '^every step held' "$TMP/nobody.log"
}

# summary prints every stage and ends in the line that counts.
summary() {
  local passed=0 failed=0 skipped=0 name
  [ ! -f "$TMP/counts" ] || read -r passed failed skipped <"$TMP/counts"
  for name in ${FAILED[@]+"${FAILED[@]}"}; do
    # Failed tests are counted one by one; any other stage is one failure.
    [[ "$name" =~ ^(tests|campaign) && "$failed" -gt 0 ]] || failed=$((failed + 1))
  done
  printf '\n== summary (%d s)\n' "$SECONDS"
  printf '  %s\n' ${STAGES[@]+"${STAGES[@]}"}
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

everything() {
  lint_build >"$TMP/lint.log" 2>&1 &
  LINT_BUILD=$!
  stage "format" format
  stage "build" go build ./...
  stage "generated code" generated
  stage "vet" go vet ./...
  stage "without cgo" portable
  stage "modules" go mod tidy -diff
  stage "tests, race detector" tests -race
  stage "fuzz" fuzz
  stage "demo, softkey and SoftHSM" demo
  stage "demo, ordinary user" ordinary
  stage "lint" lint
}

quick() {
  stage "build" go build ./...
  stage "vet" go vet ./...
  stage "tests" tests
}

main() {
  local mode=${1:-}
  case "$mode" in
  "" | --quick | --campaign) ;;
  *)
    echo "usage: test.sh [--quick | --campaign NAME]" >&2
    return 2
    ;;
  esac
  if [ "$mode" = --campaign ]; then
    # shellcheck source=conformance/campaigns.sh
    . conformance/campaigns.sh
    [ "${2:-list}" != list ] || { campaigns; return; }
  fi
  stage "packages" packages
  case "$mode" in
  --campaign) [ ${#FAILED[@]} -gt 0 ] || campaign "$2" ;;
  --quick) [ ${#FAILED[@]} -gt 0 ] || quick ;;
  *) [ ${#FAILED[@]} -gt 0 ] || everything ;;
  esac
  summary
}

main "$@"
