#!/usr/bin/env bash
# Runs test programs and sums them:  run_tests.sh TEST...
# Each prints "N passed, N failed" as its last line. One that does not, that dies, or that reports failure only by its
# exit status counts as one more failure. JOBS of them run at a time (by default, the number of cores); they start in
# the given order, and their output keeps that order. The last line is the sum. RUNNER runs tests that are no shell
# scripts, if they are not programs themselves.
set -u
limit=600 # seconds that one test may take

# The test in a separate process, started by xargs, so that Ctrl-C reaches it (children started by & ignore it).
# Leaves SCRATCH/NUMBER.output, .status and .seconds (of a core), and prints the number.
if [ "${1:-}" = --one ]; then
    scratch=$2 number=$3 test=$4 runner=(${RUNNER:-})
    if [[ $test = *.sh ]]; then runner=(bash); fi
    export TMPDIR=$scratch/$number
    mkdir "$TMPDIR"
    TIMEFORMAT='%U %S'
    {
        time timeout "$limit" "${runner[@]}" "$test" >"$scratch/$number.output" 2>&1 </dev/null
        echo $? >"$scratch/$number.status"
    } 2>"$scratch/$number.seconds"
    rm -rf "$TMPDIR"
    echo "$number"
    exit
fi

export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # waiting threads sleep: other programs may need the core
scratch=$(mktemp -d) && chmod 755 "$scratch" # for tests that continue as another user
trap 'rm -rf "$scratch"' EXIT
tests=("$@") passed=0 failed=0

report() { # report NUMBER: prints what a test printed, and counts
    local file=$scratch/$1 status last
    status=$(cat "$file.status" 2>/dev/null || echo unknown)
    last=$(tail -n 1 "$file.output" 2>/dev/null)
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        sed '$d' "$file.output" | tail -n 40
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        if [ "$status" != 0 ] && [ "${BASH_REMATCH[2]}" = 0 ]; then
            last="$last, but it ended with exit status $status"
            failed=$((failed + 1))
        fi
    else
        tail -n 40 "$file.output" 2>/dev/null
        last="FAILED without a verdict, exit status $status"
        failed=$((failed + 1))
    fi
    echo "$(basename "${tests[$1]}"): $last ($(awk 'END { printf "%.1f", $1 + $2 }' "$file.seconds" 2>/dev/null) s of a core)"
}

report_all() { # reads the numbers of tests that ended
    local next=0 number
    if [ ${#tests[@]} = 0 ]; then
        echo "no tests given"
        failed=1
    fi
    while read -r number; do
        : >"$scratch/$number.ended"
        while [ -e "$scratch/$next.ended" ]; do report $((next++)); done
    done
    while [ $next -lt ${#tests[@]} ]; do report $((next++)); done # those whose process was killed
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}

for number in "${!tests[@]}"; do printf '%s\0%s\0' "$number" "${tests[number]}"; done |
    xargs -0 -r -n 2 -P "${JOBS:-$(nproc)}" "${BASH_SOURCE[0]}" --one "$scratch" | report_all
