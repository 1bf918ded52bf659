#!/usr/bin/env bash
# test_launches.sh PROGRAM: what a step of each model launches, in how many blocks, and its products, are what counts.txt
# says, and roofline.awk finds what it needs of them. PROGRAM is step_bytes in the emulation's plain build. The last line is
# "N passed, N failed", one a row.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

launches() {
    awk '!/^#/ { print $1, $2, $3, $4, $5, $6 " launches,", $7 " early,", $8 " blocks,", $11 " GFLOP" }' "$1"
}

./count.sh --launches "$1" >"$work/now" || exit 1
diff <(launches counts.txt) <(launches "$work/now") >"$work/diff"
rows=$(($(grep -vc '^#' "$work/now") - 1)) failed=$(grep -c '^>' "$work/diff") gone=$(grep -c '^<' "$work/diff")
if [ "$gone" -gt "$failed" ]; then failed=$gone; fi
if [ "$failed" != 0 ]; then
    head -n 40 "$work/diff"
    echo 'not what dev/step_bytes/counts.txt says (<): if that is meant, make step-bytes UPDATE=1'
fi
if ! ./roofline.sh counts.txt >"$work/roofline" || grep '^no loop' "$work/roofline"; then failed=$((failed + 1)); fi
echo "$((rows > failed ? rows - failed : 0)) passed, $failed failed"
[ "$failed" = 0 ]
