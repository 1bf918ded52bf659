#!/usr/bin/env bash
# The command line of convert_data (CONVERT_DATA, default build/convert_data): words and options, in any order, and
# messages for wrong ones. Prints "N passed, N failed" last.
convert=$(realpath "${CONVERT_DATA:-build/convert_data}")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
mkdir in
passed=0 failed=0

answer() { # answer STATUS PATTERN WORDS...: it ends so, and what it prints has the pattern
    local status=$1 pattern=$2
    shift 2
    "$convert" "$@" >log 2>&1
    local got=$?
    if [ $got = "$status" ] && grep -qe "$pattern" log; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED $*: exit $got and $(head -n 3 log)"
}

answer 0 "^  --any-hash" --help
answer 0 "^  cifar100 INPUT_DIR OUTPUT_DIR" -h
answer 0 "^usage: ./convert_data cifar10 INPUT_DIR" cifar10 --help
answer 2 "^The commands are fashion-mnist|mnist|cifar10"
answer 2 "unknown command cifar$" cifar in out
answer 2 "expected after mnist: INPUT_DIR OUTPUT_DIR" mnist in
answer 2 "one argument too many: more" mnist in out more
answer 2 "unknown command 1" 1 2 3 4 5 6 7 8 9
answer 2 "unknown option --any-hahs: did you mean --any-hash" mnist in out --any-hahs
answer 2 "unknown option -x: see --help" mnist in out -x
answer 2 "'-any-hash' is not an option" mnist in out -any-hash
answer 2 "any-hash maybe is unknown" mnist in out --any-hash=maybe
answer 2 "expected after index: FOLDER" index
answer 2 "one argument too many: out" index in out
answer 2 "side is no option of index" index in --side 256
answer 2 "side 20000 is out of range" folder in out --side 20000
answer 1 "holds no tars whose names say train or val\|install libjpeg-dev" index in
answer 1 "give --split 0.1 to take a tenth\|install libjpeg-dev" folder in out
answer 1 "in holds no images for training\|install libjpeg-dev" imagenet in out
for words in "mnist in out" "--any-hash mnist in out" "mnist --any-hash in out" "mnist --any-hash off in out" "mnist in out --any-hash=off"; do
    # shellcheck disable=SC2086
    answer 1 "neither train-images-idx3-ubyte nor" $words
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
