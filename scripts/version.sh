#!/usr/bin/env bash
# What a program reports about its build, as C:  version.sh CONFIG.mk VERSION.c
# The commit is that of the file COMMIT, written by `make dist`, else git's; compiler and libraries are those found by
# scripts/probe.sh. A file that would not change is not rewritten.
set -u
config=$1 to=$2
cd "$(dirname "$0")/.." || exit 1

commit=$(cat COMMIT 2>/dev/null || git describe --always --dirty --abbrev=10 --exclude='*' 2>/dev/null || echo unknown)
flags=$(sed -n 's/^\(FOUND\|MPI\|PROTOBUF_C\)_FLAGS := //p' "$config" 2>/dev/null)
note() { sed -n "s/^$1_NOTE := ✓ *//p" "$config" 2>/dev/null; }

# name, what shows that it is there, the number of words of its note, and the words before them
libraries=""
while read -r name flag words label; do
    [[ " $(echo $flags) " == *" $flag "* ]] || continue
    text=$(note "$name" | cut -d' ' -f1-"$words")
    libraries+="${libraries:+, }$label${label:+${text:+ }}$text"
done <<'LIST'
OPENMP -fopenmp 1 OpenMP
BLAS -DHAVE_OPENBLAS 2
DNNL -DHAVE_DNNL 1 oneDNN
CJSON -DHAVE_CJSON 1 cJSON
ZLIB -DHAVE_ZLIB 1 zlib
LIBCRYPTO -DHAVE_LIBCRYPTO 2
JPEG -DHAVE_JPEG 2
PNG -DHAVE_PNG 1 libpng
MPI -DHAVE_MPI 3
PROTOBUF_C -DHAVE_PROTOBUF_C 1 protobuf-c
LIST

plain() { tr -d '"\\\n' <<<"$1"; }
text="const char build_commit[] = \"$(plain "$commit")\";
const char build_compiler[] = \"$(plain "$(note COMPILER)")\";
const char build_libraries[] = \"$(plain "${libraries:-no libraries}")\";"
[ "$(cat "$to" 2>/dev/null)" = "$text" ] || printf '%s\n' "$text" >"$to"
