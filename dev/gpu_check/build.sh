# shellcheck shell=bash disable=SC2154,SC2034
# The programs that scripts/gpu_check.sh runs, all in one folder: built here, or carried from elsewhere.
built=${BUILD:-build} # relative to the root

# Those that compile are built whatever becomes of the others
build_in() { # BUILD-FOLDER ARCHITECTURES MAKE-SETTING...
    local build=$1 arch=$2 name status
    shift 2
    make -s BUILD="$build" "$@" "$build/config.mk" # what both read
    make -s -k -j "$(nproc)" BUILD="$build" CUDA_ARCH="$arch" "$@" \
        "$build"/{train_katcu,bench_cuda,train_kat,convert_data} &
    # shellcheck disable=SC2046
    make -s -k -j "$(nproc)" -C dev/test_cuda BUILD="../../$build/test_cuda" CUDA_ARCH="$arch" "$@" \
        $(for name in compare_dumps probe $tests; do echo "../../$build/test_cuda/$name"; done)
    status=$?
    wait $! && return $status
}

all_programs() { echo train_katcu bench_cuda train_kat convert_data compare_dumps probe "$tests"; }

collect() { # BUILD-FOLDER FOLDER: the programs that are there
    local name
    mkdir -p "$2" || return
    for name in $(all_programs); do
        if [ -x "$1/test_cuda/$name" ]; then cp -f "$1/test_cuda/$name" "$2/" || return; fi
        if [ -x "$1/$name" ]; then cp -f "$1/$name" "$2/" || return; fi
    done
}

# ---- On the machine with the GPU

# Leaves the folder in $programs
get_programs() {
    if [ -n "$programs" ]; then
        if carried_run; then return; fi
        missing "programs of $programs" "they do not run here, so they are built: $(tail -n 1 "$work/carried.log")"
    fi
    if [ -z "$nvcc" ]; then
        no_run "There is a GPU here, but no nvcc (on PATH, in CUDA_HOME/bin or /usr/local/cuda/bin):" \
            "install the CUDA toolkit, 12 or 13, or bring the programs: scripts/gpu_check.sh --build DIR elsewhere."
    fi
    programs=$work/programs
    run_part build 240
    name_missing_library
}

carried_run() {
    use_libraries any
    { timeout 60 "$programs/probe" && timeout 60 "$programs/train_katcu" --model vit-mini --dry-run --classes 10; } \
        >"$work/carried.log" 2>&1 && name_missing_library
}

build() {
    if [ $emulated = yes ]; then
        build_emulated
        return
    fi
    build_in "$built" "$arch"
    local status=$?
    collect "$built" "$programs"
    return $status
}

# The trainers say themselves whether they read weights
name_missing_library() {
    local dump=$work/dump.safetensors
    "$programs/train_kat" --device cpu --model vit-mini --dim 8 --heads 1 --depth 1 --image-size 16 --batch-size 1 \
        --dump-state "$dump" >/dev/null 2>&1
    if "$programs/train_kat" --device cpu --eval "$dump" 2>&1 | grep -q "without cJSON"; then
        missing libcjson "no runs that go on, no --eval and --classify in the trainer's comparison"
    fi
    rm -f "$dump"
    return 0
}

# use_libraries PART: what was carried, and CUDA's. PyTorch brings its own.
use_libraries() {
    if [ "$1" != torch ]; then
        LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$programs/lib:${CUDA_HOME:+$CUDA_HOME/lib64:}/usr/local/cuda/lib64"
        export LD_LIBRARY_PATH
    fi
}

# one after the other: they share the emulation's objects
build_emulated() {
    local jobs test=build/test_cuda/emu/plain/${tests}_emu
    jobs=-j$(nproc)
    make -s "$jobs" train_katcu_emu && make -s "$jobs" build/bench_cuda_emu &&
        make -s "$jobs" build/reduced/train_kat BUILD=build/reduced EXTRA_CFLAGS=-DREDUCED &&
        make -s "$jobs" -C dev/test_cuda ../../build/test_cuda/compare_dumps "../../$test" || return
    mkdir -p "$programs" && cp train_katcu_emu "$programs/train_katcu" && cp build/bench_cuda_emu "$programs/bench_cuda" &&
        cp build/test_cuda/compare_dumps build/reduced/train_kat "$programs" &&
        cp "$test" "$programs/$tests"
}

# ---- On a machine that has none

# build_to_carry FOLDER ARCHITECTURES: for any x86-64 with AVX2, or for this machine's own kind. What cannot be built is
# named, and the others are there.
build_to_carry() {
    local folder=$1 arch=$2 processor=native name status
    if [ "$(uname -m)" = x86_64 ]; then processor=x86-64-v3; fi
    real_sizes
    build_in "$built/carried" "$arch" ARCH=$processor BLAS=none DNNL=none LIBCRYPTO=none ARCHIVE=none
    status=$?
    collect "$built/carried" "$folder" && mkdir -p "$folder/lib" &&
        git describe --always --dirty >"$folder/commit" || return
    for name in "$folder"/*; do
        if [ -f "$name" ]; then ldd "$name" 2>/dev/null; fi
    done | awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libcu.*)\.so/ { print $3 }' |
        sort -u | while read -r name; do cp -Lf "$name" "$folder/lib/"; done
    strip "$folder"/train_* "$folder"/bench_cuda "$folder"/convert_data "$folder"/test_* 2>/dev/null
    for name in $(all_programs); do
        if [ ! -x "$folder/$name" ]; then echo "not built: $name"; fi
    done
    echo "$folder: $(du -sh "$folder" | cut -f 1); there: scripts/gpu_check.sh --programs $folder"
    return $((status != 0))
}
