# shellcheck shell=bash
# The long runs of conformance/test.sh, which reads this file. Each prints how
# far it is and writes conformance/campaigns/NAME.md, to be committed.

campaigns() {
  cat <<'END'
fuzz      every fuzz target for FUZZ_TIME each (5m)
random    the property tests with CHECKS random cases each (10000), from SEED
repeat    everything ROUNDS times (20) with the race detector, each in another order, from SEED
ckr       every CKR code at every PKCS #11 function, before and after; a minute of load with a wrong PIN
kms-kill  kill -9 at every step of making and rotating a key in a cloud's KMS, 200 rounds each
bench     the benchmarks; a token of MANY_KEYS keys (10000) among them
END
}

# report NAME begins a report: what, when, from which seed, on what.
report() {
  REPORT=conformance/campaigns/$1.md
  mkdir -p conformance/campaigns
  {
    printf '# Campaign %s\n\n' "$1"
    printf 'date %s, seed %s, commit %s\n' "$(date -u +%FT%TZ)" "$SEED" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    printf '%s, %s cores\n\n' "$(go version | cut -d' ' -f3-)" "$(nproc)"
  } >"$REPORT"
}

# held NAME DONE TOTAL COMMAND... runs one part and writes down what came of it.
held() {
  local name=$1 at=$2 total=$3 begun=$SECONDS
  shift 3
  printf '\n-- %d/%d %s (after %d s)\n' "$at" "$total" "$name" "$SECONDS"
  if "$@"; then
    printf -- '- %s: held, %d s\n' "$name" $((SECONDS - begun)) >>"$REPORT"
    return 0
  fi
  printf -- '- %s: FAILED\n' "$name" >>"$REPORT"
  return 1
}

# conclude DONE TOTAL ends a report, and counts its parts as tests.
conclude() {
  echo "$1 $(($2 - $1)) 0" >"$TMP/counts"
  printf '\n%d of %d held\n' "$1" "$2" | tee -a "$REPORT"
  echo "written: $REPORT"
  [ "$1" -eq "$2" ]
}

campaign() {
  case "$1" in
  fuzz | random | repeat | ckr | kms-kill | bench) stage "campaign $1" "campaign_${1//-/_}" ;;
  *)
    echo "campaign $1 is not known; hint: --campaign list" >&2
    FAILED+=("campaign $1")
    ;;
  esac
}

campaign_fuzz() {
  local all i=0 good=0 dir target
  mapfile -t all < <(fuzz_targets)
  report fuzz
  for entry in "${all[@]}"; do
    i=$((i + 1))
    read -r dir target <<<"$entry"
    held "$target in $dir, ${FUZZ_TIME:-5m}" "$i" "${#all[@]}" \
      go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZ_TIME:-5m}" "$dir" && good=$((good + 1))
  done
  conclude "$good" "${#all[@]}"
}

campaign_random() {
  local all i=0 good=0 dir
  mapfile -t all < <(grep -rlF 'pgregory.net/rapid"' --include='*_test.go' . | xargs -n1 dirname | sort -u)
  report random
  for dir in "${all[@]}"; do
    i=$((i + 1))
    held "$dir, ${CHECKS:-10000} cases a property" "$i" "${#all[@]}" \
      go test -timeout 2h "$dir" -rapid.checks="${CHECKS:-10000}" -rapid.seed="$SEED" -rapid.nofailfile && good=$((good + 1))
  done
  conclude "$good" "${#all[@]}"
}

campaign_repeat() {
  local i good=0 rounds=${ROUNDS:-20}
  report repeat
  for i in $(seq "$rounds"); do
    held "round $i, order $((SEED + i))" "$i" "$rounds" \
      go test -race -shuffle=$((SEED + i)) ./... && good=$((good + 1))
  done
  conclude "$good" "$rounds"
}

campaign_ckr() {
  local good=0
  report ckr
  held "every code at every function" 1 2 \
    ckr_test 'EveryErrorAtEveryFunction' && good=$((good + 1))
  held "a wrong PIN under load for a minute" 2 2 \
    ckr_test 'APINThatIsRefusedIsNeverTriedAgain' && good=$((good + 1))
  conclude "$good" 2
}

# ckr_test NAME runs one drill in full, and quotes what it counted.
ckr_test() {
  SIGNET_CAMPAIGN=ckr go test -count=1 -timeout 1h -v -run "$1" ./signers/pkcs11 >"$TMP/ckr.log"
  local code=$?
  grep -E '^(---|ok|FAIL)|_test.go:' "$TMP/ckr.log"
  { echo '```'; grep -E '^(---|ok|FAIL)|_test.go:' "$TMP/ckr.log"; echo '```'; } >>"$REPORT"
  return "$code"
}

campaign_kms_kill() {
  local good=0
  report kms-kill
  held "kill -9 at every step, AWS and Google, create and rotate, 200 rounds each" 1 1 \
    kms_kill_test && good=$((good + 1))
  conclude "$good" 1
}

kms_kill_test() {
  env SIGNET_CAMPAIGN=kms-kill SEED="$SEED" go test -count=1 -timeout 2h -v ./conformance/kmskill >"$TMP/kms-kill.log"
  local code=$?
  grep -vE '^=== ' "$TMP/kms-kill.log"
  { echo '```'; grep -E '^ *---|^(ok|FAIL)|_test.go:' "$TMP/kms-kill.log" | head -60; echo '```'; } >>"$REPORT"
  return "$code"
}

campaign_bench() {
  report bench
  if ! MANY_KEYS=${MANY_KEYS:-10000} go test -run '^$' -bench . -timeout 1h ./conformance/bench | tee "$TMP/bench.txt"; then
    conclude 0 1
    return
  fi
  { echo '```'; cat "$TMP/bench.txt"; echo '```'; } >>"$REPORT"
  conclude 1 1
}
