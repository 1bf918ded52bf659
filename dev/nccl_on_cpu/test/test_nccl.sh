#!/usr/bin/env bash
# Several processes of test_nccl_emu: correct, they pass in every build and order; with each planted defect one of them says
# what test/defects.h has for it. The builds are in $EMU_BUILD. Prints "N passed, N failed" last.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
work=$(mktemp -d)
trap 'kill -KILL $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
passed=0 failed=0 runs=0
export EMU_NCCL_SECONDS=30

program() { echo "$EMU_BUILD/$1/test/test_nccl_emu"; }

# together SIZE BUILD "VARIABLE=VALUE..." DEFECT: so many processes at once; status: the largest of theirs
together() {
    local size=$1 program pids=() one rank
    program=$(program "$2")
    runs=$((runs + 1)) status=0
    for ((rank = 0; rank < size; rank++)); do
        # shellcheck disable=SC2086
        env $3 RANK=$rank SIZE="$size" NCCL_COMM_ID=test:$$-$runs timeout 60 "$program" $4 >"$work/$rank" 2>&1 &
        pids+=($!)
    done
    for one in "${pids[@]}"; do
        wait "$one"
        local ended=$?
        if [ $ended -gt $status ]; then status=$ended; fi
    done
}

check() { # check SENTENCE CONDITION...
    local sentence=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
        tail -n 5 "$work"/[0-9]
    fi
}

correct() { # correct SIZE BUILD "VARIABLE=VALUE..."
    together "$@" ""
    check "$1 processes, $2 build, $3: exit status $status" test $status = 0
}

ends_stopped() { # what has stopped itself is ended by its peer's report: the shell waits for it no longer
    local size=2 program rank
    program=$(program plain)
    for ((rank = 0; rank < size; rank++)); do
        RANK=$rank SIZE=$size NCCL_COMM_ID=test:$$-stops EMU_NCCL_SECONDS=1 "$program" stops >"$work/$rank" 2>&1 &
    done
    wait %1 2>/dev/null
    kill -KILL %2 2>/dev/null
    wait 2>/dev/null
}

for build in plain asan race; do
    if [ ! -x "$(program $build)" ]; then
        echo "SKIPPED, not passed: the $build build is not there"
        continue
    fi
    for size in 2 3; do correct $size $build "EMU_ORDER=forward"; done
    correct 3 $build "EMU_ORDER=priority:1 EMU_LATE=1 EMU_DEVICES=3"
done
correct 4 plain "EMU_ORDER=random:2 EMU_LATE=1"

while IFS='"' read -r front build _ environment _ words _; do
    name=$(tr -d ' ,' <<<"${front#*D(}")
    if [ "$name" = none ] || [ ! -x "$(program "$build")" ]; then continue; fi
    if [ "$name" = stops ]; then ends_stopped; else together 2 "$build" "EMU_NCCL_SECONDS=1 $environment" "$name"; fi
    check "$name is not found ($build $environment), or does not say \"$words\"" grep -qF -- "$words" "$work/0" "$work/1"
done < <(grep '^    D(' defects.h)

nothing_left() { ! compgen -G "/dev/shm/kat.c-test:$$-*" && ! compgen -G "/dev/shm/kat.c-test-$$-*"; }
check "something is left in /dev/shm" nothing_left

echo "$passed passed, $failed failed"
[ $failed = 0 ]
