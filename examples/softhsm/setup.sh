#!/usr/bin/env bash
# setup.sh DIR makes a SoftHSM token in DIR and a configuration for it.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: setup.sh DIR" >&2; exit 2; }
umask 077
mkdir -p "$1/tokens"
dir=$(cd "$1" && pwd)
[ ! -e "$dir/signet.yaml" ] || { echo "$dir/signet.yaml is there; hint: choose another directory" >&2; exit 1; }
export SOFTHSM2_CONF=$dir/softhsm2.conf
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir" >"$SOFTHSM2_CONF"
# The PIN is in a file of the daemon's alone. softhsm2-util takes it as an
# argument: good enough for a trial, on a machine that is yours.
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/pin"
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/so-pin"
softhsm2-util --init-token --free --label signet --pin "$(cat "$dir/pin")" --so-pin "$(cat "$dir/so-pin")"
cp "$(dirname "$0")/signet.yaml" "$dir/signet.yaml"
sed -i "s/uid: 0/uid: $(id -u)/" "$dir/signet.yaml"
echo "made $dir/signet.yaml; next:"
echo "  export SIGNET_CONFIG=$dir/signet.yaml SOFTHSM2_CONF=$SOFTHSM2_CONF"
echo "  signet serve"
