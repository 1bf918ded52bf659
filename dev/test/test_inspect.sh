#!/usr/bin/env bash
# ./inspect: norms against a plain calculation from the file's bytes, configuration and metadata, differences between
# two files, tensors of types that are not read, files of other kinds.
# Needs TRAIN_KAT and INSPECT (default ./train_kat, ./inspect). Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
inspect=$(realpath "${INSPECT:-$(dirname "$program")/inspect}")
cd "$work" || exit 1

tells() { prints "$inspect" "$@"; }
tiny=(--model kat-mini-g3b --dim 8 --heads 1 --depth 2 --mlp-ratio 2 --rational-groups 4 --image-size 16 --batch-size 4
      --train-images 20 --test-images 10 --steps 4 --threads 1)
"$train" "${tiny[@]}" --output a >a.log 2>&1
"$train" "${tiny[@]}" --lr 0.01 --output b >b.log 2>&1

# made NAME HEADER BYTES: a file of this JSON, whose data printf makes of BYTES
made() {
    local header=$2
    while [ $((${#header} % 8)) != 0 ]; do header+=" "; done
    # shellcheck disable=SC2059
    { printf "\\x$(printf %02x ${#header})\0\0\0\0\0\0\0"; printf '%s' "$header"; printf "$3"; } >"$1"
}
# 3, 4 | 0, 2, NaN, -1
made one.safetensors '{"__metadata__":{"made":"by hand\nin two lines"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[4,1],"data_offsets":[8,24]}}' \
    '\0\0\x40\x40\0\0\x80\x40\0\0\0\0\0\0\0\x40\0\0\xc0\x7f\0\0\x80\xbf'
# 3, 4.5 | an int
made two.safetensors '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}' \
    '\0\0\x40\x40\0\0\x90\x40\7\0\0\0\0\0\0\0'
# 3, 4 in half precision
made half.safetensors '{"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}' '\0\x42\0\x44'

# ---- one file
check "norm, mean, deviation, least, largest" tells 0 "^ x F32 \(2\) 5 3.5 0.5 3 4 ?$" one.safetensors
check "what is not finite is counted, and left out of the others" \
    tells 0 "^ y F32 \(4,1\) 2.23607 0.333 1.25 -1 2 1 not finite$" one.safetensors
check "the sum of it" tells 0 "^file one.safetensors: 2 tensors, 6 values, 0.000[0-9]* MB$" one.safetensors
check "metadata, a line each" tells 0 "^made by hand, in two lines$" one.safetensors
check "another type" tells 0 "^ x F16 \(2\) 5 3.5 0.5 3 4 ?$" half.safetensors
check "a type that is not read" tells 0 "^ n I64 \(\) - - - - - ?$" two.safetensors
check "some of them" tells 0 "^ blocks.1.attn.karat.coef" a/best.safetensors --only 'blocks.1.*'
check "and no others" test "$(grep -c '^ blocks.1' says.log) $(grep -cE '^ (blocks.0|head|cls)' says.log)" = \
    "$("$inspect" a/best.safetensors | grep -c '^  blocks.1') 0"
check "the run's options" tells 0 "^settings command line: .*--dim 8 --depth 2" a/last.safetensors
check "its step" tells 0 "^step 4$" a/last.safetensors
check "no option is told twice" test "$(grep -cE '^(dim|kat\.c|lr) ' says.log)" = 0
check "as many values as the run says" tells 0 "tensors, $(sed -n 's/^parameters \([0-9]*\) .*/\1/p' a.log) values" a/last.safetensors

# ---- two files
check "the same file" tells 0 "^tensors 2 with the same values, 0 with others .* 0 in the first alone, 0 in the second$" \
    two.safetensors two.safetensors
check "values that differ" tells 0 "^ x \(2\) 5 5.40833 0.1 0.5$" one.safetensors two.safetensors
check "tensors of one alone" grep -q "^ y (4,1) only in the first" says.log
check "or of the other" grep -q "^ n () only in the second" says.log
check "metadata of one alone" grep -q "^made by hand, in two lines | -$" says.log
check "the same values in another type are the same" \
    tells 0 "^tensors 1 with the same values, 0 with others" half.safetensors one.safetensors --only x
check "options that differ" tells 0 "^options --lr was 0.001, is now 0.01$" a/last.safetensors b/last.safetensors
check "and nothing of what is the same" test "$(grep -cE '^(mean|test_data|step) ' says.log)" = 0
check "two shapes" bash -c "'$train' ${tiny[*]} --dim 16 --output c >c.log 2>&1"
check "are told" tells 0 "^ cls_token \(1,1,8\) in the second F32 \(1,1,16\)" a/last.safetensors c/last.safetensors

# ---- bad input
head -c 100 a/last.safetensors >cut.safetensors
check "a file that is cut" tells 1 "^error: cut.safetensors is not a valid safetensors file" cut.safetensors
check "no such file" tells 1 "^error: cannot open nowhere" nowhere
check "three files" tells 2 "expected one safetensors file, or two" one.safetensors two.safetensors half.safetensors
check "none" tells 2 "expected one safetensors file, or two"
check "an unknown option" tells 2 "unknown option --all" --all
check "--help" tells 0 "usage: ./inspect FILE" --help
check "--help before a file" tells 0 "usage: ./inspect FILE" --help one.safetensors
verdict
