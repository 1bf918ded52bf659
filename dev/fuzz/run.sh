#!/bin/sh
# Fuzzes one target:  run.sh PROGRAM NAME SECONDS FOUND
# Inputs that reach new code are kept in FOUND/NAME, an input that shows a bug in FOUND/NAME-crash-..., -leak-...,
# -timeout-... or -oom-...: copy it to dev/fuzz/corpus/NAME. Run  PROGRAM FILE  to see it again.
set -u
program=$1 name=$2 seconds=$3 found=$4
here=$(dirname "$0")
parent=${TMPDIR:-/tmp}
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then parent=/dev/shm; fi # the targets write their input to a file
scratch=$(mktemp -d "$parent/kat-fuzz-XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$found/$name"

echo "== $name, $seconds s"
log=$found/$name.log
TMPDIR=$scratch "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=64 \
    -max_len=8192 -close_fd_mask=1 -print_final_stats=1 -artifact_prefix="$found/$name-" \
    "$found/$name" "$here/corpus/$name" >"$log" 2>&1
status=$?
if [ $status != 0 ]; then
    grep -vE '^#[0-9]+[[:space:]]' "$log" | head -n 60
    echo "$name: a bug, see above and $log"
else
    grep -E '^#[0-9]+[[:space:]]+DONE|^stat::(number_of_executed|average_exec|peak_rss)' "$log"
fi
exit $status
