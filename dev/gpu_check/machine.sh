# shellcheck shell=bash disable=SC2154,SC2034
# What scripts/gpu_check.sh finds on this machine, and what it misses.

# One field of nvidia-smi, which prints its errors where its answers are expected
ask_card() {
    local answer
    answer=$(timeout 20 nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null) || return
    head -n 1 <<<"$answer"
}

# missing NAME WHAT-IS-LOST
missing() {
    tell "missing: $1: $2"
    row missing name "$1" lost "$2"
}

find_machine() {
    local capability
    nvcc=$(make -s -C dev/test_cuda nvcc 2>/dev/null)
    device=$(ask_card name)
    capability=$(ask_card compute_cap | grep -xE '[0-9]+\.[0-9]+')
    if [ -z "$capability" ]; then
        missing nvidia-smi "no clocks; it says: $(timeout 20 nvidia-smi 2>&1 | head -n 1)"
        IFS='|' read -r device capability <<<"$(probe)"
    fi
    if [ -z "$capability" ]; then
        no_run "There is no GPU here: make -C dev/test_cuda emu trainer runs the same tests on the CPU," \
            "scripts/gpu_check.sh --emulated this script."
    fi
    arch=${arch:-sm_${capability/./}}
    python=$(command -v "$python" || echo "$python")
    record_card "$capability"
    name_missing_tools
    real_sizes
}

# By a program of our own, where it is there or can be built
probe() {
    if [ -x "$programs/probe" ] && timeout 60 "$programs/probe"; then return; fi
    if [ -n "$nvcc" ] && "$nvcc" -o "$work/probe" dev/gpu_check/probe.cu >"$work/probe.log" 2>&1; then
        timeout 60 "$work/probe"
    fi
}

record_card() {
    row machine gpu "$device" capability "$1" driver "$(ask_card driver_version)" power_limit_w "$(ask_card power.limit)" \
        memory_mib "$(ask_card memory.total)" max_sm_mhz "$(ask_card clocks.max.sm)" ecc "$(ask_card ecc.mode.current)" \
        mig "$(ask_card mig.mode.current)" gcc "$(gcc --version 2>/dev/null | head -n 1)" \
        nvcc "$("${nvcc:-false}" --version 2>/dev/null | grep release)" cores "$(nproc)" kernel "$(uname -r)"
    timeout 20 nvidia-smi -q >>"$log" 2>&1
}

name_missing_tools() {
    if [ -z "$nvcc" ]; then missing nvcc "nothing can be built (not on PATH, nor in CUDA_HOME or /usr/local/cuda)"; fi
    find_tool compute-sanitizer || missing compute-sanitizer "no look at memory accesses, barriers and races"
    find_tool ncu || missing ncu "no counters of the largest kernels"
    has_torch || missing PyTorch "no peer ($python has none; set PYTHON)"
}

# Without importing it, which takes seconds
has_torch() { "$python" -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("torch"))' 2>/dev/null; }

# On PATH, or beside nvcc
find_tool() {
    if [ -n "$nvcc" ]; then PATH=$PATH:$(dirname "$(command -v "$nvcc")"); fi
    command -v "$1" >/dev/null
}

# no_run LINE...: ends, where nothing can be done
no_run() {
    printf '%s\n' "$@" | tee -a "$log"
    verdict machine "FAILED: $1" "$SECONDS"
    exit 1
}

real_sizes() {
    tests=$(cd dev/test_cuda && echo test_*.cu | sed 's/\.cu//g')
    smoke=(--image-size 224 --patch 16 --precision bf16 --batch-size 256 --classes 1000)
    shapes=(--image-size 224 --patch 16 --batch-size 4) shape_models=(vit-tiny kat-tiny-g3b vit-base) classes=(10 1000)
    product_models=$'vit-tiny 256\nvit-base 64'
    bench_flags=() torch_flags=(--device cuda) orders="first second"
}

# ---- Under the emulation

emulate() {
    if ! command -v nvcc >/dev/null && [ -z "${CUDA_HOME:-}" ]; then
        echo "SKIPPED, not passed: no CUDA toolkit, the headers of which the emulation needs"
        echo "0 passed, 0 failed"
        exit 0
    fi
    device="emulation on the CPU" tests=test_rational programs=$work/programs
    smoke=(--dim 24 --depth 1 --image-size 16 --batch-size 4)
    shapes=(--dim 24 --depth 1 --image-size 16 --batch-size 4) shape_models=(vit-mini kat-mini-g3b) classes=(12)
    product_models="vit-mini 4"
    bench_flags=(--small --rounds 2) torch_flags=(--device cpu --small --sizes tiny --rounds 2) orders="forward reverse"
}
