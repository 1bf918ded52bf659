#!/usr/bin/env bash
# Everything from a fresh Debian or Ubuntu machine to a verdict: installs what is missing, builds, and runs
#   1. all tests,
#   2. all tests with less work in each, under AddressSanitizer and UBSan,
#   3. all tests with less work in each, without OpenBLAS.
# The last line, "N passed, N failed", sums the three; the exit status is 1 if anything failed.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/setup.sh

install_missing "${build_packages[@]}" "${data_packages[@]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# suite TITLE MAKE-ARGUMENT...
suite() {
    local title=$1 start=$SECONDS last status
    shift
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
    echo "== $title: $((SECONDS - start)) s"
}

make help
suite "tests" test
suite "tests under AddressSanitizer and UBSan" test-asan
suite "tests without OpenBLAS" test BUILD=build/own BLAS=none EXTRA_CFLAGS=-DREDUCED
echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
