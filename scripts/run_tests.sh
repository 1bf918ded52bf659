#!/usr/bin/env bash
# Runs test programs and sums them:  run_tests.sh TEST...
# Each prints "N passed, N failed" as its last line. One that does not, that dies, or that reports failure with its exit
# status alone counts as one more failure. The last line is the sum.
set -u
limit=600 # seconds that one test may take
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # waiting threads sleep: other programs may want the core

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
passed=0 failed=0

if [ $# = 0 ]; then
    echo "no tests given"
    failed=1
fi
for test in "$@"; do
    runner=()
    if [[ $test = *.sh ]]; then runner=(bash); fi
    start=$SECONDS
    { timeout "$limit" "${runner[@]}" "$test" >"$scratch/output" 2>&1 </dev/null; status=$?; } 2>/dev/null
    last=$(tail -n 1 "$scratch/output")
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        sed '$d' "$scratch/output" | tail -n 40
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        if [ "$status" != 0 ] && [ "${BASH_REMATCH[2]}" = 0 ]; then
            last="$last, but it ended with exit status $status"
            failed=$((failed + 1))
        fi
    else
        tail -n 40 "$scratch/output"
        last="FAILED without a verdict, exit status $status"
        failed=$((failed + 1))
    fi
    echo "$(basename "$test"): $last ($((SECONDS - start)) s)"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
