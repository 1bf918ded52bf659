#!/usr/bin/env bash
# Version and build in messages; where `make install` puts files and what `make uninstall` removes; that man page and
# completion have every option of the table; the archive of `make dist`.
# Needs TRAIN_KAT (default ./train_kat) in a folder with the other programs and MANUAL. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
build=$(dirname "$program") root=$PWD
manual=$(realpath "${MANUAL:-$build/manual}")
[ "$(dirname "$manual")" = "$build" ] || build=$(dirname "$manual")
options=$("$train" --help | sed -n 's/^  --\([a-z0-9-]*\) .*/\1/p')

# ---- version and build
version=$("$train" --version)
check "--version" grep -qE '^kat\.c [0-9]+\.[0-9]+, commit [^;]+; .*-march=' <<<"$version"
check "by itself" test "$(wc -l <<<"$version")" = 1
tiny=(--model vit-mini --dim 8 --heads 1 --depth 1 --image-size 16 --batch-size 4 --train-images 20 --test-images 10 --steps 2)
check "a run says it" says 0 "build      $version" "${tiny[@]}" --output "$work/run"
check "its config.txt" grep -qxF "# by $version" "$work/run/config.txt"
for file in best last last.resume; do
    check "$file.safetensors" grep -qaF "\"build\":\"$version\"" "$work/run/$file.safetensors"
done
mkdir "$work/other" && cp scripts/version.sh "$work/other" && mkdir "$work/other/scripts" && mv "$work/other/version.sh" "$work/other/scripts"
made() { # made COMMIT CONFIG: what version.sh makes of them, elsewhere
    echo "$1" >"$work/other/COMMIT"
    printf '%s\n' "$2" >"$work/other/config.mk"
    (cd "$work/other" && GIT_CEILING_DIRECTORIES=$work scripts/version.sh config.mk version.c && cat version.c)
}
found='COMPILER_NOTE := ✓ gcc 12, -march=native
ZLIB_NOTE := ✓ 1.2.13
PNG_NOTE := ✓ 1.6.39
FOUND_FLAGS := -fopenmp -DHAVE_ZLIB -I/usr/include'
check "the commit of an archive" grep -qF 'build_commit[] = "abc123"' <<<"$(made abc123 "$found")"
check "compiler" grep -qF 'build_compiler[] = "gcc 12, -march=native"' <<<"$(made abc123 "$found")"
check "libraries that are used" grep -qF 'build_libraries[] = "OpenMP, zlib 1.2.13"' <<<"$(made abc123 "$found")"
check "nothing that C takes for something else" grep -qF 'build_commit[] = "a;n"' <<<"$(made 'a"\;n' "$found")"
stamp=$(stat -c %y "$work/other/version.c")
made 'a"\;n' "$found" >/dev/null
check "what stays the same is not written again" test "$stamp" = "$(stat -c %y "$work/other/version.c")"

# ---- install: from a folder with what there is, and stand-ins for programs that were not made
mkdir "$work/build"
for name in train_kat convert_data analyze compare_runs inspect fit_rational; do
    if [ -x "$build/$name" ]; then cp "$build/$name" "$work/build/"; else printf '#!/bin/sh\n' >"$work/build/$name" && chmod +x "$work/build/$name"; fi
done
cp "$manual" "$work/build/manual"
to=$work/to/usr
check "install" env DESTDIR="$work/to" scripts/install.sh "$work/build" /usr
check "programs" test -x "$to/bin/train_kat" -a -x "$to/bin/inspect" -a ! -e "$to/bin/train_katcu" -a ! -e "$to/bin/manual"
check "the installed program runs" "$to/bin/train_kat" --version
page=$to/share/man/man1/train_kat.1 bash=$to/share/bash-completion/completions/train_kat zsh=$to/share/zsh/site-functions/_train_kat
missing=""
for option in $options; do
    grep -qF "\\fB\\-\\-${option//-/\\-}\\fR" "$page" || missing+=" $option in man"
    grep -qE "(^|[ '])--$option( |')" "$bash" || missing+=" $option in bash"
    grep -qF "'--$option[" "$zsh" || missing+=" $option in zsh"
done
check "every option is in the man page and in both completions: not$missing" test -z "$missing" -a -n "$options"
check "and no other" test "$(grep -c '^\.TP' "$page")" = "$(wc -w <<<"$options")"
if command -v man >/dev/null && man -l "$page" >"$work/page" 2>"$work/page.log"; then
    check "man shows it" grep -qE -- '--batch-size, -b' "$work/page"
    check "without complaints" test ! -s "$work/page.log"
fi
completes() { # completes WANTED WORDS...: the last word is completed to these
    local wanted=$1
    shift
    test "$(bash -c '. "$1"; shift; COMP_WORDS=(train_kat "$@"); COMP_CWORD=$#; _train_kat; echo "${COMPREPLY[*]}"' - "$bash" "$@")" = "$wanted"
}
check "bash is well-formed" bash -n "$bash"
check "bash: a flag" completes "--batch-size" --batch
check "bash: a choice" completes "softmax softmax-rank" --attn soft
check "bash: a switch" completes "off on" --lr 1 --rrc o
check "bash: a model" completes "swin-tiny" --model swin-t
cd "$work" || exit 1
check "bash: a file" completes "$work/run" --resume "$work/ru"
if command -v zsh >/dev/null; then check "zsh is well-formed" zsh -n "$zsh"; fi
cd "$root" || exit 1
touch "$to/bin/other"
check "uninstall" env DESTDIR="$work/to" scripts/install.sh --remove "$work/build" /usr
check "takes all of it, and nothing else" test "$(cd "$to" && find . ! -type d)" = ./bin/other
rm "$work/build/inspect"
check "a program that is missing is told" bash -c "! DESTDIR='$work/to' scripts/install.sh '$work/build' /usr 2>'$work/told'"
check "by name" grep -q "there is no $work/build/inspect: make it first" "$work/told"

# ---- dist
if git rev-parse HEAD >/dev/null 2>&1; then
    mkdir "$work/dist"
    check "dist" scripts/dist.sh "$work/dist"
    archive=("$work"/dist/kat.c-*.tar.gz)
    tar -C "$work/dist" -xzf "${archive[0]}"
    unpacked=("$work"/dist/kat.c-*/)
    check "has the sources" test -s "${unpacked[0]}/train_vit.c" -a -s "${unpacked[0]}/Makefile"
    check "knows its commit" test "$(cat "${unpacked[0]}/COMMIT")" = "$(git describe --always --abbrev=10 --exclude='*')"
    check "and nothing of what was built" test ! -e "${unpacked[0]}/build"
fi
verdict
