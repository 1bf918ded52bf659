#!/usr/bin/env bash
# Everything from a fresh Debian or Ubuntu machine to a verdict: installs what is missing, builds, and runs
#   1. all tests,
#   2. all tests with less work in each, under AddressSanitizer and UBSan,
#   3. the tests of arithmetic with less work in each, for any x86-64 with AVX2, without OpenBLAS,
#   4. the same for any x86-64, with OpenBLAS,
#   5. a build in a folder whose name has a space and an apostrophe,
#   6. the CUDA kernels and trainer, on the CPU, given the CUDA toolkit's headers (dev/cuda_on_cpu): in several orders
#      of their threads, under AddressSanitizer, and for races, given clang++; what nvcc makes of them, if it is there.
# The last line, "N passed, N failed", sums them; the exit status is 1 if anything failed. On a machine that is not
# x86-64, 3 is run for this machine's own processor and 4 is left out.
#
#     scripts/test.sh --quick     between edits: 1 without the slowest tests of commands (all rows of the papers, reports of
#                                 whole runs, faults of ranks), and from 6 each kernel in one order of threads
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/setup.sh

quick=no
case "${1:-}" in
'') ;;
--quick) quick=yes ;;
*) echo "$1 is unknown: scripts/test.sh [--quick]; one test is run by make test-NAME" >&2; exit 2 ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

read_core() { # stores in $core the core seconds that this shell's commands have taken so far
    times >"$log"
    core=$(awk -F'[ms ]' 'NR == 2 { gsub(",", "."); printf "%.0f", 60 * $1 + $2 + 60 * $4 + $5 }' "$log")
}
minutes() { echo "$(($1 / 60)) min $(($1 % 60)) s"; }

# suite TITLE MAKE-ARGUMENT...
suite() {
    local title=$1 start=$SECONDS core_before last status
    shift
    read_core
    core_before=$core
    echo
    echo "== $title"
    make -s -j "$(nproc)" "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    last=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        if [ "$status" != 0 ] && [ "${BASH_REMATCH[2]}" = 0 ]; then failed=$((failed + 1)); fi
    else
        echo "FAILED before any test ran"
        failed=$((failed + 1))
    fi
    read_core
    echo "== $title: $((core - core_before)) s of a core, $((SECONDS - start)) s"
}

verdict() {
    read_core
    echo
    echo "core time $(minutes "$core"), wall $(minutes "$SECONDS")"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

if [ $quick = yes ]; then
    slowest='reproduce|analyze_runs|analyze_models|rank_faults'
    suite "tests" test SHELL_TESTS="$(printf '%s\n' dev/test/test_*.sh | grep -vE "_($slowest).sh$" | tr '\n' ' ')"
    suite "CUDA kernels against the CPU's, emulated, in one order of threads" -C dev/test_cuda emu ORDERS=priority:1
    verdict
    exit
fi

install_missing "${build_packages[@]}" "${rank_packages[@]}" "${export_packages[@]}" "${data_packages[@]}"
find_cuobjdump
make help
suite "tests" test
suite "tests under AddressSanitizer and UBSan" test-asan
arch=native
if grep -qw avx2 /proc/cpuinfo; then arch=x86-64-v3; fi
suite "arithmetic without OpenBLAS, -march=$arch" test-arithmetic BUILD=build/own BLAS=none ARCH=$arch EXTRA_CFLAGS=-DREDUCED
if [ "$(uname -m)" = x86_64 ]; then
    suite "arithmetic, -march=x86-64" test-arithmetic BUILD=build/plain ARCH=x86-64 EXTRA_CFLAGS=-DREDUCED
fi
suite "a build in a folder with a space and an apostrophe in its name" test-folder
suite "the emulation of CUDA on the CPU, with planted defects" -C dev/cuda_on_cpu test
suite "the emulation of NCCL on the CPU, with planted defects" -C dev/nccl_on_cpu test
suite "CUDA kernels against the CPU's, emulated, in five orders of threads" -C dev/test_cuda emu
suite "the same under AddressSanitizer and UBSan, in one order" -C dev/test_cuda emu EMU=asan ORDERS=forward
if command -v clang++ >/dev/null; then
    suite "the same, looking for races" -C dev/test_cuda emu EMU=race ORDERS=forward
else
    echo "SKIPPED, not passed: races in the CUDA kernels (no clang++)"
fi
suite "registers of the CUDA kernels, and no spills" -C dev/test_cuda resources
suite "the CUDA trainer, emulated, against the CPU's" -C dev/test_cuda trainer
suite "the CUDA trainer on several GPUs, emulated, against itself on one" -C dev/test_cuda ranks
suite "what a step launches" -C dev/test_cuda launches
suite "scripts/gpu_check.sh, emulated" test-gpu-check
verdict
