#!/usr/bin/env bash
# cuda_to_cpp.sh refuses what it cannot rewrite, and says which line.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# refused WHAT WORDS CODE: rewriting CODE fails, and says WORDS
refused() {
    printf '%s\n' "$3" >"$work/x.cu"
    if ./cuda_to_cpp.sh "$work/x.cu" "$work/mirror" "${CXX:-g++}" >"$work/output" 2>&1 ||
        ! grep -q "$2" "$work/output"; then
        echo "FAILED: $1 is not refused"
        cat "$work/output"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

refused 'a ; in a launch' 'a launch' 'void f() { k<<<[] { return 1; }(), 32>>>(); }'
refused 'a launch without arguments' 'a launch' 'void f() { auto g = k<<<1, 32>>>; }'
refused 'two declarators' 'one declarator' '    __shared__ float a[2], b[2];'
refused 'a declaration after code' 'one declarator' '    int i; __shared__ float a[2];'
refused 'a declaration across lines' 'one declarator' '    __shared__ float
        a[2];'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
