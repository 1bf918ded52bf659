#!/usr/bin/env bash
# Everything to know about this program on this machine's NVIDIA GPU, in one command and at most 8 minutes:
#
#     scripts/gpu_check.sh [--json FILE] [--seconds 480] [--emulated]
#
# builds for the GPU, tests on it (every kernel and the whole trainer against the CPU's, the same bits in every run),
# measures (dev/bench/bench_cuda.cu: what the GPU can do, training steps of ViT, KAT and KArAt in three sizes, the
# operations of a step against their floors; dev/bench/torch_gpu.py: PyTorch, where it is), and in the time that is left
# looks at every memory access (compute-sanitizer: memcheck, racecheck). Each part has a limit of time and a verdict, ok,
# FAILED or skipped with the reason; one that fails does not stop the others. All verdicts and numbers go to FILE
# (gpu_check.json unless told). Exit status 1 where a part failed, or there is no GPU.
#
# Nothing is installed. Wanted: nvcc, gcc, make; for the trainer's test libcjson (unpacked anywhere: CPATH, LIBRARY_PATH
# and LD_LIBRARY_PATH find it); compute-sanitizer; PyTorch with Triton for the python3 there, or for $PYTHON.
# --emulated runs the same parts in tiny sizes on the CPU (dev/cuda_on_cpu): a test of this script, not of a GPU.
set -u
script=$(realpath "${BASH_SOURCE[0]}")
json=$PWD/gpu_check.json seconds=480 emulated=no slower=1
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=$(realpath -m "$2"); shift ;;
    --seconds) seconds=$2; shift ;;
    --emulated) emulated=yes seconds=1200 slower=5 ;;
    --sanitize) shift; break ;; # of this script's own
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
    shift
done
cd "$(dirname "$script")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
deadline=$((SECONDS + seconds)) failed=0
python=${PYTHON:-python3}
rows=$work/rows verdicts=$work/verdicts
: >"$rows"
: >"$verdicts"
export TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton PYTHONDONTWRITEBYTECODE=1

# part NAME SECONDS FUNCTION ARGUMENT...: the function has $limit seconds; it returns 77 where it has nothing to do, the
# reason in its last line
part() {
    local name=$1 most=$(($2 * slower)) start=$SECONDS left=$((deadline - SECONDS)) status verdict=ok
    shift 2
    limit=$((left < most ? left : most))
    if [ "$limit" -lt 5 ]; then
        verdict="skipped: no time left"
    else
        "$@" >"$work/log" 2>&1
        status=$?
        case $status in
        0) ;;
        77) verdict="skipped: $(tail -n 1 "$work/log")" ;;
        124 | 137) verdict="FAILED: not done in $limit s" ;;
        *) verdict="FAILED: $(last_words)" ;;
        esac
        if [[ $verdict = FAILED* ]]; then tail -n 25 "$work/log"; fi
        if [[ $name = measured* ]]; then cat "$work/log"; fi
    fi
    if [[ $verdict = FAILED* ]]; then failed=$((failed + 1)); fi
    printf '%s|%s|%s\n' "$name" "$verdict" "$((SECONDS - start))" >>"$verdicts"
    printf -- '-- %-34s %s (%d s)\n' "$name" "$verdict" "$((SECONDS - start))"
}

# Of a part that failed: the sum of its tests, or its last line
last_words() {
    { grep -v '^make\|^$' "$work/log" | tail -n 1; grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/log"; } |
        tail -n 1 | cut -c 1-100
}

limited() { timeout -k 5 "$limit" "$@"; }
skip() { echo "$*"; return 77; }

# ---- On the GPU

find_gpu() {
    if ! nvidia-smi -L >"$work/gpus" 2>&1; then
        echo "There is no GPU here: make -C dev/test_cuda emu trainer runs the same tests on the CPU,"
        echo "scripts/gpu_check.sh --emulated this script."
        exit 1
    fi
    if ! command -v nvcc >/dev/null; then
        echo "There is a GPU here, but no nvcc: install the CUDA toolkit, 12 or 13."
        exit 1
    fi
    device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    arch=sm_$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    tests=$(cd dev/test_cuda && ls test_*.cu | sed 's/\.cu$//')
    trainer=./train_katcu bench=build/bench_cuda small=() bench_sizes=(tiny base small) torch=(--device cuda)
    bits=(--model kat-tiny-g3b --image-size 224 --patch 16 --batch-size 32 --precision bf16)
    gpu_test() { limited make -s -C dev/test_cuda gpu ARCH="$arch"; }
}

# Those that compile are built whatever becomes of the others; a part whose program is missing fails later
build_for_gpu() {
    limited make -s -k -j "$(nproc)" train_kat train_katcu build/bench_cuda CUDA_ARCH="$arch" &
    # shellcheck disable=SC2086
    limited make -s -k -j "$(nproc)" -C dev/test_cuda ARCH="$arch" $(printf '../../build/test_cuda/%s ' $tests)
    local status=$?
    wait $! && return $status
}

trainer_test() {
    if ! echo '#include <cjson/cJSON.h>' | gcc -E - >/dev/null 2>&1; then
        skip "no libcjson: see the top of gpu_check.sh"
        return
    fi
    limited make -s -C dev/test_cuda trainer TRAIN_KATCU=../../train_katcu
}

# sanitize TOOL: all tests, and a step of the trainer, several at a time; what is not done in time is no failure
sanitize() {
    command -v compute-sanitizer >/dev/null || { skip "no compute-sanitizer"; return; }
    local tool=$1 program step log
    step="$trainer --model kat-mini-g3b --dim 48 --depth 1 --image-size 16 --batch-size 4 --train-images 8"
    step+=" --test-images 4 --steps 1 --precision bf16 --output $work/sanitized-$tool"
    log=$work/$tool
    {
        for program in $tests; do echo "build/test_cuda/$program"; done
        echo "$step"
    } | xargs -P 6 -d '\n' -n 1 "$script" --sanitize "$tool" "$limit" "$log" >"$log"
    cut -c 1-80 "$log"
    if grep -qv '^\(0\|124\|137\) ' "$log"; then
        tail -n 20 "$log".[0-9]*
        echo "errors in" $(grep -v '^\(0\|124\|137\) ' "$log" | cut -d ' ' -f 2)
        return 1
    fi
    if grep -qv '^0 ' "$log"; then skip "$(grep -c '^0 ' "$log") of $(wc -l <"$log") programs were done in $limit s"; fi
}

# sanitize_one TOOL SECONDS LOG PROGRAM: its exit status and its name
sanitize_one() {
    local status
    # shellcheck disable=SC2086
    timeout -k 5 "$2" compute-sanitizer --tool "$1" --error-exitcode 99 $4 >"$3.$$" 2>&1
    status=$?
    echo "$status $4"
    if [ $status = 0 ]; then rm -f "$3.$$"; fi
}

# ---- Under the emulation

emulate() {
    if ! command -v nvcc >/dev/null && [ -z "${CUDA_HOME:-}" ]; then
        echo "SKIPPED, not passed: no CUDA toolkit, the headers of which the emulation needs"
        echo "0 passed, 0 failed"
        exit 0
    fi
    device="emulation on the CPU" tests=test_rational
    trainer=./train_katcu_emu bench=build/bench_cuda_emu small=(--small --rounds 1) bench_sizes=(tiny)
    torch=(--device cpu --small --sizes tiny --rounds 1)
    bits=(--model kat-mini-g3b --dim 24 --depth 1 --image-size 16 --batch-size 4)
    gpu_test() { limited make -s -C dev/test_cuda emu ORDERS="forward reverse" TESTS="$tests"; }
}

# one after the other: they share the emulation's objects
build_emulated() { limited make -s -j "$(nproc)" train_katcu_emu && limited make -s build/bench_cuda_emu; }

# ---- Both

# The same file from two runs of a few steps
same_bits() {
    local run
    for run in forward reverse; do # under the emulation, an order of its threads
        EMU_ORDER=$run limited "$trainer" "${bits[@]}" --train-images 128 --test-images 8 --steps 4 \
            --output "$work/$run" || return
    done
    cmp "$work/forward/last.safetensors" "$work/reverse/last.safetensors"
}

measure() { limited "$bench" "$1" "${small[@]}" --json "$rows"; }

measure_torch() {
    "$python" -c 'import torch' 2>/dev/null || { skip "no PyTorch for $python"; return; }
    if [ $emulated = no ] && ! "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        skip "PyTorch of $python sees no GPU"
        return
    fi
    limited "$python" dev/bench/torch_gpu.py "${torch[@]}" --seconds $((limit - 40)) --json "$rows"
    local status=$?
    if [ $status = 124 ]; then skip "not all done in $limit s"; else return $status; fi
}

write_json() {
    {
        printf '{"device": "%s", "commit": "%s", "date": "%s", "seconds": %d,\n "verdicts": [\n' "$device" \
            "$(git rev-parse --short HEAD 2>/dev/null)" "$(date -u +%FT%TZ)" "$SECONDS"
        sed -e 's/["\\]//g' -e 's/^\(.*\)|\(.*\)|\([0-9]*\)$/  {"part": "\1", "verdict": "\2", "seconds": \3},/' \
            -e '$s/,$//' "$verdicts"
        printf ' ],\n "rows": [\n'
        sed -e 's/^/  /' -e '$!s/$/,/' "$rows"
        printf ' ]}\n'
    } >"$json"
}

if [ $# -gt 0 ]; then
    sanitize_one "$@"
    exit 0
fi
if [ $emulated = yes ]; then emulate; else find_gpu; fi
echo "$device, at most $seconds s"
if [ $emulated = yes ]; then part "build" 180 build_emulated; else part "build" 180 build_for_gpu; fi
part "kernels against the CPU's, twice" 90 gpu_test
if [ $emulated = no ]; then
    part "trainer against the CPU's" 90 trainer_test
fi
part "same bits in two runs of the trainer" 60 same_bits
for size in "${bench_sizes[@]}"; do part "measured: $size" 75 measure "$size"; done
part "measured: PyTorch" $(((deadline - SECONDS - 100) / slower)) measure_torch
if [ $emulated = no ]; then
    part "compute-sanitizer memcheck" 60 sanitize memcheck
    part "compute-sanitizer racecheck" 75 sanitize racecheck
fi
echo
sed 's/|\([0-9]*\)$/ (\1 s)/; s/|/: /' "$verdicts"
echo
awk -f dev/bench/gpu_table.awk "$rows"
write_json
echo
echo "$SECONDS s; every number is in $json"
echo "$(grep -c '|ok|' "$verdicts") passed, $failed failed"
[ "$failed" = 0 ]
