#!/usr/bin/env bash
# resources.sh [--update], run by `make resources` (UPDATE=--update): of every kernel but the tests' own, compiled with
# the tests here for sm_80 and sm_90 into $CUBIN_SETS in $CUBINS, a table of what ptxas says: registers on both, bytes
# of spills and of static shared memory.
# Fails on a spill, and where the table is not that of resources.txt, if that was made by the same release of nvcc;
# --update writes that file.
# Where there is a cuobjdump, a second table, and a file instructions.txt, tell what the loops of the rational and of
# attention's kernels are made of (loops.awk says how), the rational's backward has to keep within its limits, and kernels
# that are launched early must wait before they touch memory (waits.awk). It is looked for in CUOBJDUMP, beside nvcc and
# on the path; PyPI has it as nvidia-cuda-cuobjdump, with the nvidia-cuda-nvdisasm that it calls.
# The last line is "N passed, N failed", one a kernel.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

shorten() { sed -e 's/(RationalForm)0/A/g' -e 's/(RationalForm)1/paper/g' -e 's/__nv_bfloat16/bf16/g' -e 's/> >/>>/g'; }

for arch in sm_80 sm_90; do
    for set in $CUBIN_SETS; do
        c++filt <"$CUBINS/$arch/$set.cubin.log" | awk -v arch=$arch '
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
                if (name !~ /^test_/) print name "|" arch "|" registers "|" spills "|" shared
            }' | shorten
    done
done | sort -u | awk -F'|' '
    $1 != name { row(); name = $1; spills = 0 }
    { registers[$2] = $3; spills += $4; shared = $5 }
    function row() { if (name) printf line, name, registers["sm_80"], registers["sm_90"], spills, shared }
    BEGIN { line = "%-98s %5s %5s %6s %6s\n"; printf line, "kernel", "sm_80", "sm_90", "spills", "shared" }
    END { row() }' >"$work/table"

# limits TABLE: the rational's backward in bf16, by 8 channels: registers and, in the table of loops, instructions
registers_limit=64 instructions_limit=60 limited='^rational_backward_kernel<5, 4, [a-zA-Z]*, 8, bf16>'
over_registers() { awk -v limit=$registers_limit "/$limited/"' && ($(NF - 2) > limit || $(NF - 3) > limit)' "$1"; }
over_instructions() { awk -v limit=$instructions_limit "/$limited/"' && $NF > limit' "$1"; }

# loop_table CUOBJDUMP: instructions an element where 16 bytes are stored, which are 8 elements
loop_table() {
    local line='%-58s %4s %6s %12s %5s %5s %5s %8s %8s %8s\n' arch test
    # shellcheck disable=SC2059
    printf "$line" kernel loop arch instructions HMMA MUFU LDSM LDG.128 STG.128 "/element"
    for arch in sm_80 sm_90; do
        for test in test_rational test_attention test_karat; do
            "$1" -sass "$CUBINS/$arch/$test.cubin" | c++filt | awk -f loops.awk | shorten | grep -v 'float>\|<15, 15' |
                awk -F'|' -v line="$line" -v arch=$arch '{
                    sub(/\([^()]*\)$/, "", $1)
                    element = $4 == 0 && $8 > 0 ? sprintf("%.1f", $3 / (8 * $8)) : "-"
                    printf line, $1, $2, arch, $3, $4, $5, $6, $7, $8, element }'
        done
    done | sort -s -t '|' -k 1.1,1.58
}

# impatient CUOBJDUMP: kernels for sm_90, which has such launches, that touch memory and then wait
impatient() {
    local set
    for set in $CUBIN_SETS; do "$1" -sass "$CUBINS/sm_90/$set.cubin"; done | c++filt | awk -f waits.awk | shorten
}

release=$("${NVCC:-nvcc}" --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p')
cuobjdump=${CUOBJDUMP:-$(command -v cuobjdump || echo "$(dirname "$(realpath "$(command -v "${NVCC:-nvcc}")")")/cuobjdump")}
kernels=$(($(wc -l <"$work/table") - 1)) failed=0

# compare TABLE FILE: prints the table; a row that is not the file's, made by the same release, fails
compare() {
    sed -i "1s/^kernel  \{${#release}\}/kernel, $release/" "$1"
    if [ "$update" = --update ]; then cp "$1" "$2"; fi
    cat "$1"
    if [ "$(head -n 1 "$2")" = "$(head -n 1 "$1")" ] && ! diff "$2" "$1"; then
        failed=$((failed + $(diff "$2" "$1" | grep -c '^[<>]')))
        echo "not what $2 says: if that is meant, make resources UPDATE=--update"
    fi
}
# refuse WHAT ROWS: the rows, if any, fail
refuse() {
    if [ -n "$2" ]; then
        failed=$((failed + $(echo "$2" | wc -l)))
        echo "$1: $2"
    fi
}

update=${1:-}
compare "$work/table" resources.txt
refuse spills "$(awk 'NR > 1 && $(NF - 1) > 0' "$work/table")"
refuse "more than $registers_limit registers" "$(over_registers "$work/table")"
if [ -x "$cuobjdump" ]; then
    loop_table "$cuobjdump" >"$work/loops"
    compare "$work/loops" instructions.txt
    refuse "more than $instructions_limit instructions an element" "$(over_instructions "$work/loops")"
    refuse "touches memory, then waits for the kernel in front" "$(impatient "$cuobjdump")"
    grep -q "$limited" "$work/loops" || refuse "no loop found" "$limited"
else
    echo 'SKIPPED, not passed: instructions, for want of cuobjdump'
fi
echo "$((kernels > failed ? kernels - failed : 0)) passed, $failed failed"
[ "$failed" = 0 ]
