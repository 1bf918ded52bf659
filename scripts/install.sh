#!/usr/bin/env bash
# Installs what was built, or removes it again:
#
#     install.sh BUILD PREFIX            preceded by DESTDIR=..., it stages the files elsewhere
#     install.sh --remove BUILD PREFIX
#
# PREFIX/bin gets the programs, PREFIX/share the man page and completion for bash and zsh, made by BUILD/manual.
set -eu
remove=no
if [ "${1:-}" = --remove ]; then remove=yes && shift; fi
[ $# = 2 ] || { echo "error: expected the folder of what was built, and where to install it" >&2; exit 2; }
build=$1 to=${DESTDIR:-}$2
programs="train_kat convert_data analyze compare_runs inspect fit_rational train_katcu"
made=(share/man/man1/train_kat.1 share/bash-completion/completions/train_kat share/zsh/site-functions/_train_kat)

if [ $remove = yes ]; then
    for name in $programs; do rm -f "$to/bin/$name"; done
    rm -f "${made[@]/#/$to/}" "$to/share/man/man1/train_katcu.1" "$to/share/bash-completion/completions/train_katcu"
    exit
fi
for name in $programs; do
    if [ -x "$build/$name" ]; then
        install -D "$build/$name" "$to/bin/$name"
    elif [ $name != train_katcu ]; then
        echo "error: there is no $build/$name: make it first" >&2
        exit 1
    fi
done
kinds=(man bash zsh)
for i in 0 1 2; do
    mkdir -p "$(dirname "$to/${made[$i]}")"
    "$build/manual" "${kinds[$i]}" >"$to/${made[$i]}"
done
echo ".so man1/train_kat.1" >"$to/share/man/man1/train_katcu.1"
ln -sf train_kat "$to/share/bash-completion/completions/train_katcu"
