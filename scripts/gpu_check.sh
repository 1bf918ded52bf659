#!/usr/bin/env bash
# Everything to know about this program on this machine's NVIDIA GPU, in one command:
#
#     scripts/gpu_check.sh [--json FILE] [--minutes 10] [--only PART,PART...] [--programs DIR]
#     scripts/gpu_check.sh --build DIR [--arch "sm_80 sm_90"]
#
# builds for the GPU and goes through these parts, the most telling first:
#
#   smoke        20 steps of ViT-Tiny and of KAT with KArAt at 224², with CUDA graphs and without: the same bits; images/s
#   kernels      every kernel against the CPU's, twice: the same bits
#   shapes       gradients of whole models at 224² against the CPU's trainer, in fp32, tf32 and bf16
#   memcheck, synccheck, racecheck    compute-sanitizer on the kernels' tests and on steps of the trainer
#   bench-tiny, bench-base, bench-small   training steps of ViT, KAT, KArAt and both, the operations of a step against
#                their floors, and what the GPU can do (dev/bench/bench_cuda.cu)
#   products     steps with the products that cublasLt proposes, and with the quickest (--tune-products); runs that go on
#                with these: the same bits
#   batches      Tiny at other batch sizes, and where a step's time goes
#   torch        PyTorch (dev/bench/torch_gpu.py)
#   again        bench-tiny once more: whether the GPU is what it was
#   trainer      the whole trainer against the CPU's (dev/test_cuda/test_train.sh)
#   counters     what holds the largest kernels up (ncu)
#
# --only takes some of them ("bench" stands for all that begin so). Where the minutes are too few, the last parts are left
# out, and this is said first. Each part has a limit of time and a verdict, ok, FAILED or skipped with the reason; one that
# fails does not stop the others. Whatever becomes of this script, what was finished is on disk: verdicts and numbers in
# FILE (gpu_check.json unless told), beside it the numbers alone, a line each (.rows), and all output (.log). Exit status
# 1 where a part failed, or there is no GPU.
#
# Nothing is installed; what is missing is named. Wanted: nvcc, gcc, make; libcjson (unpacked anywhere: CPATH, LIBRARY_PATH
# and LD_LIBRARY_PATH find it); compute-sanitizer; ncu; PyTorch with Triton for the python3 there, or for $PYTHON.
# --build leaves all programs in DIR on a machine that needs no GPU; --programs runs those, and builds if they do not run.
# --emulated runs the same parts in tiny sizes on the CPU (dev/cuda_on_cpu): a test of this script, not of a GPU.
set -u
script=$(realpath "${BASH_SOURCE[0]}")
root=$(dirname "$(dirname "$script")")
json=$PWD/gpu_check.json minutes=10 only="" programs="" emulated=no build="" arch=""
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$script" >&2; exit 2; }
while [ $# -gt 0 ] && [ "$1" != --inside ]; do
    if [ $# -lt 2 ] && [ "$1" != --emulated ]; then usage; fi
    case $1 in
    --json) json=$(realpath -m "$2"); shift ;;
    --minutes) minutes=$2; shift ;;
    --only) only=$2; shift ;;
    --programs) programs=$(realpath -m "$2"); shift ;;
    --build) build=$(realpath -m "$2"); shift ;;
    --arch) arch=$2; shift ;;
    --emulated) emulated=yes minutes=20 ;;
    *) usage ;;
    esac
    shift
done
case $minutes in '' | *[!0-9]*) usage ;; esac
cd "$root" || exit 1
for file in report session machine build checks measure; do . "dev/gpu_check/$file.sh"; done

# a part, and the seconds that it needs at least and gets at most
parts=("smoke 20 60" "kernels 20 60" "shapes 30 90" "memcheck 20 50" "synccheck 15 30" "racecheck 15 40"
       "bench-tiny 20 45" "bench-base 25 60" "bench-small 20 45" "products 20 60" "batches 15 40" "torch 60 200"
       "again 12 30" "trainer 60 150" "counters 20 60")
if [ $emulated = yes ]; then
    parts=("smoke 5 300" "kernels 5 300" "shapes 5 300" "bench-tiny 5 400" "products 5 300" "torch 5 400" "again 5 300")
fi

do_part() {
    case $1 in
    bench-*) bench "${1#bench-}" ;;
    again) bench tiny --steps-only ;;
    memcheck | synccheck | racecheck) sanitize "$1" ;;
    torch) bench_torch ;;
    *) "$1" ;;
    esac
}

chosen() { # PART
    local name
    for name in ${only//,/ }; do
        if [[ $1 = "$name" || $1 = "$name"-* ]]; then return 0; fi
    done
    [ -z "$only" ]
}

# Leaves in $plan the parts that were chosen and have room, each with what the later ones need
make_plan() {
    local part name least most needed=0 left=$((deadline - SECONDS))
    local fitting=()
    plan=()
    for part in "${parts[@]}"; do
        read -r name least most <<<"$part"
        if ! chosen "$name"; then continue; fi
        if [ $((needed + least)) -gt "$left" ]; then
            verdict "$name" "skipped: $minutes minutes are too few" 0
        else
            fitting+=("$part")
            needed=$((needed + least))
        fi
    done
    for part in "${fitting[@]}"; do
        read -r name least most <<<"$part"
        needed=$((needed - least))
        plan+=("$part $needed")
    done
}

run_plan() {
    local part name least most later seconds
    for part in "${plan[@]}"; do
        read -r name least most later <<<"$part"
        seconds=$((deadline - SECONDS - later))
        if [ "$seconds" -gt "$most" ]; then seconds=$most; fi
        if [ "$seconds" -lt "$least" ]; then
            verdict "$name" "skipped: no time left" 0
        else
            run_part "$name" "$seconds"
        fi
    done
}

if [ "${1:-}" = --inside ]; then # a part, in a session of its own: the folder with the settings, a function, arguments
    . "$2/settings"
    use_libraries "${@: -1}"
    "${@:3}"
    exit
fi
if [ -n "$build" ]; then
    build_to_carry "$build" "$arch"
    exit
fi
for name in ${only//,/ }; do
    if ! printf '%s\n' "${parts[@]}" | grep -q "^${name}[ -]"; then echo "no part is called $name" >&2; usage; fi
done
work=$(mktemp -d)
export TMPDIR=$work PYTHONDONTWRITEBYTECODE=1
export TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton
python=${PYTHON:-python3}
begin_report
trap 'end_session; rm -rf "$work"' EXIT
trap 'stopped' INT TERM HUP
deadline=$((SECONDS + 60 * minutes))
if [ $emulated = yes ]; then emulate; else find_machine; fi
tell "$device, at most $minutes minutes"
if [ $emulated = yes ]; then run_part build 600; else get_programs; fi
make_plan
run_plan
finish_report
