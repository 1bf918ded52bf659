#!/usr/bin/env bash
# resources.sh [--update]: compiles every test_*.cu here, and so every kernel, for sm_80 and sm_90 and prints a table of
# what ptxas says of each: registers on both, bytes of spills, bytes of static shared memory. Fails on a spill, and where
# the table is not that of resources.txt, if that was made by the same release of nvcc; --update writes that file. The last
# line is "N passed, N failed", one a kernel.
set -eu
cd "$(dirname "$0")"
if ! command -v "${NVCC:-nvcc}" >/dev/null; then
    echo 'SKIPPED, not passed: no nvcc'
    echo '0 passed, 0 failed'
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for arch in sm_80 sm_90; do
    for test in test_*.cu; do
        ${NVCC:-nvcc} -std=c++20 -O3 -arch=$arch -Xptxas -v -cubin -o "$work/cubin" "$test" 2>"$work/log" ||
            { cat "$work/log" >&2; exit 1; }
        c++filt <"$work/log" | awk -v arch=$arch '
            /Compiling entry function/ {
                sub(/.*function .(void )?/, "")
                sub(/\(([^()]*|\([^()]*\))*\). for .*/, "") # the arguments
                name = $0
            }
            /bytes spill stores/ { spills = $5 + $9 }
            /Used [0-9]+ registers/ {
                registers = $0; sub(/.*Used /, "", registers); sub(/ .*/, "", registers)
                shared = 0
                if (match($0, /[0-9]+ bytes smem/)) { shared = substr($0, RSTART) + 0 }
                gsub(/\(RationalForm\)0/, "A", name); gsub(/\(RationalForm\)1/, "paper", name)
                gsub(/__nv_bfloat16/, "bf16", name); gsub(/> >/, ">>", name)
                print name "|" arch "|" registers "|" spills "|" shared
            }'
    done
done | sort -u | awk -F'|' '
    $1 != name { row(); name = $1; spills = 0 }
    { registers[$2] = $3; spills += $4; shared = $5 }
    function row() { if (name) printf line, name, registers["sm_80"], registers["sm_90"], spills, shared }
    BEGIN { line = "%-98s %5s %5s %6s %6s\n"; printf line, "kernel", "sm_80", "sm_90", "spills", "shared" }
    END { row() }' >"$work/table"

release=$("${NVCC:-nvcc}" --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p')
sed -i "1s/^kernel  \{${#release}\}/kernel, $release/" "$work/table"
if [ "${1:-}" = --update ]; then cp "$work/table" resources.txt; fi
cat "$work/table"
kernels=$(($(wc -l <"$work/table") - 1)) failed=0
spilling=$(awk 'NR > 1 && $(NF - 1) > 0' "$work/table")
if [ -n "$spilling" ]; then
    failed=$(echo "$spilling" | wc -l)
    echo "spills: $spilling"
elif [ "$(head -n 1 resources.txt)" = "$(head -n 1 "$work/table")" ] && ! diff resources.txt "$work/table"; then
    failed=$(diff resources.txt "$work/table" | grep -c '^>')
    echo 'not what resources.txt says: if that is meant, resources.sh --update'
fi
echo "$((kernels - failed)) passed, $failed failed"
[ "$failed" = 0 ]
