# What the shell tests of the trainer share; to be sourced. Needs TRAIN_KAT (the program; default ./train_kat). Sets train
# (the program, on the CPU though there may be a GPU) and work (a folder that goes with the test); the test ends by verdict.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. dev/test/same_run.sh
program=$(realpath "${TRAIN_KAT:-./train_kat}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
train=$work/train_kat
printf '#!/bin/sh\nexec "%s" --device cpu "$@"\n' "$program" >"$train" && chmod +x "$train"
passed=0 failed=0

check() { # check SENTENCE COMMAND...: the command must succeed
    local sentence=$1
    shift
    if "$@" >"$work/check.log" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
        tail -3 "$work/check.log"
    fi
}

says() { # says CODE TEXT ARGUMENTS...: exit code and a part of what the trainer prints
    local code=$1 text=$2
    shift 2
    "$train" "$@" >"$work/says.log" 2>&1
    local got=$?
    [ $got = "$code" ] && grep -qF -- "$text" "$work/says.log" && return
    echo "exit $got (want $code): $(tail -1 "$work/says.log")"
    return 1
}

prints() { # prints PROGRAM CODE PATTERN ARGUMENTS...: exit code and a part of what it prints, whose runs of spaces are one
    local program=$1 code=$2 pattern=$3
    shift 3
    "$program" "$@" 2>&1 | tr -s ' ' >"$work/says.log"
    local got=${PIPESTATUS[0]}
    [ $got = "$code" ] && grep -qE -- "$pattern" "$work/says.log" && return
    echo "exit $got (want $code and \"$pattern\"): $(cat "$work/says.log")"
    return 1
}

verdict() {
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}
