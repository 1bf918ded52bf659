#!/usr/bin/env bash
# EMU_RECORD writes down what runs, and in the bytes build how much each launch reads and writes; EMU_DRY=1 does in any
# size, without running it. The builds are in $EMU_BUILD.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# expected READ WRITTEN ATOMICS-READ ATOMICS-WRITTEN: the record, without the lines of the source
expected() {
    printf 'memset\t8000\nlaunch\twindows\t8\t128\t0\t%s\t%s\t0\t0\nnote\thalf of 2\n' "$1" "$2"
    printf 'launch\tcount\t2\t128\t0\t%s\t%s\t0\t0\ncopy\t84\nproduct\t3\t5\t7\t1\t4\t4\t1\t284\t60\n' "$3" "$4"
}

# recorded WHAT EXPECTED BUILD VARIABLE=VALUE [ARGUMENT]
recorded() {
    local what=$1 wanted=$2 program=$EMU_BUILD/$3/test/record_emu
    shift 3
    if [ ! -x "$program" ]; then
        echo "SKIPPED, not passed: $what: $program is not there"
        return
    fi
    env EMU_RECORD="$work/record" "$1" "$program" "${@:2}" >"$work/output" 2>&1
    if diff <(sed 's/\t[^\t]*record.cu:[0-9]*//' "$work/record") <(echo "$wanted") >"$work/diff"; then
        passed=$((passed + 1))
    else
        echo "FAILED: $what"
        cat "$work/output" "$work/diff"
        failed=$((failed + 1))
    fi
}

recorded 'bytes of each launch' "$(expected 4012 2000 4 4)" bytes EMU_ORDER=forward
recorded 'the same in another order' "$(expected 4012 2000 4 4)" bytes EMU_ORDER=priority:1
recorded 'launches alone' "$(expected - - - -)" plain EMU_ORDER=forward
recorded '2 TB, dry' "$(expected - - - -)" plain EMU_DRY=1 40

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
