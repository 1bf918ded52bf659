#!/usr/bin/env bash
# count.sh [--launches] PROGRAM COUNTER: the rows of counts.txt for every model below, by count.awk. PROGRAM is
# step_bytes in the emulation's plain build, to record what is launched; COUNTER in its build bytes, to count what is
# read and written. --launches: only the former, which takes seconds.
set -eu
launches=no
if [ "$1" = --launches ]; then launches=yes; shift; fi
program=$1 counter=${2:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# record FILE MULTIPROCESSORS PROGRAM MODEL BATCH FLAG...
record() {
    local file=$work/$1 multiprocessors=$2
    shift 2
    EMU_RECORD=$file EMU_MULTIPROCESSORS=$multiprocessors EMU_PRODUCTS=0 "$@" || { echo "failed: $*" >&2; return 1; }
}

# record_three MODEL HEADS FLAG...: HEADS multiprocessors are a slot of KArAt's backward, and these are two
record_three() {
    local model=$1 more=$((2 * $2))
    shift 2
    record one 1 "$counter" "$model" 1 "$@"
    record two 1 "$counter" "$model" 2 "$@"
    record more $more "$counter" "$model" 2 "$@"
}

# rows NAME BATCH RECORD...
rows() { (cd "$work" && awk -v model="$1" -v batch="$2" -f "$here/count.awk" "${@:3}"); }

# The prediction for four images from the counts of one and two equals their count, to the byte, unless a launch has
# less work than multiprocessors, as in the last block of a class token
check() {
    local model=(kat-mini-g3b 4 --pool avg)
    record_three kat-mini-g3b 3 --pool avg
    EMU_DRY=1 record dry 9 "$program" "${model[@]}"
    record four 9 "$counter" "${model[@]}"
    diff <(rows four 4 four four four four) <(rows four 4 dry one two more) >&2 ||
        { echo 'count.sh: bytes of four images (<) do not follow from those of one and two (>)' >&2; return 1; }
}

# count MODEL HEADS "BATCH..." FLAG...
count() {
    local model=$1 heads=$2 batches=$3 name=$1 batch counted=()
    shift 3
    if [ $# -gt 0 ]; then name="$model+${*: -1}"; fi
    if [ $launches = no ]; then
        record_three "$model" "$heads" "$@"
        counted=(one two more)
    fi
    for batch in $batches; do
        EMU_DRY=1 record dry 132 "$program" "$model" "$batch" "$@"
        rows "$name" "$batch" dry "${counted[@]}"
    done
}

if [ $launches = no ]; then check; fi
printf '%-13s %5s  %-8s  %-11s  %-31s %8s %5s %9s %8s %7s %9s %9s %8s %8s\n' model batch direction part what launches \
    early blocks threads shared GFLOP MB_read written k_mma
for model in vit-tiny kat-tiny kat-tiny-g3b; do count $model 3 '32 256'; done
for model in vit-small kat-small kat-small-g3b; do count $model 6 256; done
for model in vit-base kat-base kat-base-g1b; do count $model 12 128; done
count vit-tiny 3 256 --pool avg
count vit-base 12 128 --pool avg
