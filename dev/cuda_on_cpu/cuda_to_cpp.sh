#!/usr/bin/env bash
# CUDA syntax to C++ by sed:  cuda_to_cpp.sh SOURCE.cu MIRROR COMPILER FLAGS...
# SOURCE.cu and every header of the project that it includes go to MIRROR/absolute/path, with launches and __shared__
# lines rewritten (the result is described in include/emu/launch.h) and line numbers kept. Headers included with <> are
# unchanged. Prints the list of files that it read, as a make rule without a target.
set -eu
source=$1 mirror=$2
shift 2

# kernel<A, B<C>>[i]<<<grid, block>>>( -> EMU_LAUNCH((kernel<A, B<C>>[i]), grid, block)(      across lines: sed -z
name='[A-Za-z_][A-Za-z0-9_:]*'
template='(<([^<>;(){}]|\([^();]*\)|<[^<>;(){}]*>)*>)?'
configuration='([^;>]|>>?[^;>])*'
launch="s/($name$template(\[[^]]*\])?)([[:space:]]*)<<<($configuration)>>>([[:space:]]*)\(/"
launch+='EMU_LAUNCH((\1)\5, \6)\8(/g' # with the white space, which may contain line ends

# __global__ void kernel(arguments) { -> the same, and a call that tells the runtime which kernel runs; no declaration
entry='s/(__global__[[:space:]][^;{]*\{)/\1 emu::enter_kernel();/g'

# __shared__ declarations begin their line and have one declarator
align='((alignas|__align__)\([^()]*\)[[:space:]]+)?'
dynamic="s/^([[:space:]]*)extern[[:space:]]+$align""__shared__[[:space:]]+$align"
dynamic+='([A-Za-z_][A-Za-z0-9_: ]*[ *]+)([A-Za-z_][A-Za-z0-9_]*)\[[[:space:]]*\][[:space:]]*;/'
dynamic+='\1EMU_DYNAMIC_SHARED(\6, \7);/'
static="s/^([[:space:]]*)$align""__shared__[[:space:]]+$align"
static+='([^;=,<]*(<[^;=]*>)?[^;=,<]*[^A-Za-z0-9_;=,])([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*'
static+='((\[[^],;]*\])*)[[:space:]]*;/'
static+='\1\2\4static \6\8\9; EMU_SHARED(\8);/'

refuse() { # FILE REASON: the offending line is on stderr
    echo "$1: the emulation cannot read this line (counted from 2): $2" >&2
    exit 1
}

rewrite() { # FILE: into its place in the mirror
    local target code
    target=$mirror$(realpath "$1")
    if [ "$1" = "$source" ]; then target=${target/%.cu/.cpp}; fi # an included file keeps its name
    mkdir -p "$(dirname "$target")"
    { echo "#line 1 \"$1\""; sed -E -e "$dynamic" -e "$static" "$1" | sed -z -E -e "$launch" -e "$entry"; } >"$target.$$"
    code=$(sed 's://.*::' "$target.$$")
    if grep -n '<<<' <<<"$code" >&2; then refuse "$1" "a launch; no ; within <<< >>>"; fi
    if grep -n '__shared__' <<<"$code" >&2; then refuse "$1" "one declarator a __shared__ line, nothing before it"; fi
    # A compiler running concurrently may be reading the previous file: it is replaced in one step, and only if the text
    # changes, or #pragma once would take a header that is included twice for two.
    if cmp -s "$target.$$" "$target"; then rm "$target.$$"; else mv "$target.$$" "$target"; fi
}

files=$("$@" -x c++ -DCUDA_EMU -MM -MT : "$source" | sed -e 's/^: *://' -e 's/\\$//')
for file in $files; do rewrite "$file"; done
echo $files
