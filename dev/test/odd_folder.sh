#!/usr/bin/env bash
# The project builds and tests itself in a folder with a space and an apostrophe in its name. A copy of the sources is
# made there; the program TRAIN_KAT is used instead of one built there. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
folder="$work/it's a folder"
unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES # of the make that runs this

mkdir -p "$folder/build"
find . \( -name build -o -name runs -o -name datasets -o -name '.?*' \) -prune -o -type f -size -400k -print0 |
    tar -c -f - --null -T - | tar -x -f - -C "$folder"
cd "$folder" || exit 1

check "make says what there is" make help
check "a program is built" make -s convert_data
check "and runs" ./convert_data --help
check "a test is built and runs" make -s test-pos_embed
cp "$program" build/train_kat
cat >dev/test/test_where.sh <<'TEST'
case $TRAIN_KAT in */"it's a folder/build/train_kat") ;; *) echo "TRAIN_KAT is $TRAIN_KAT" ;; esac
test -x "$TRAIN_KAT" && test -x "$CONVERT_DATA" && echo "1 passed, 0 failed"
TEST
check "a shell test finds the programs" make -s test-where.sh
check "nothing was built anew" cmp "$program" build/train_kat
if command -v nvcc >/dev/null; then # the compiler has only to find and read what was rewritten
    check "the emulation finds a source and its headers" make -s -C dev/test_cuda EMU_CXX='g++ -fsyntax-only' \
        EMU_UNWATCHED= CPU_KERNELS= ../../build/test_cuda/emu/plain/test_residual_emu
else
    echo "SKIPPED, not passed: CUDA's emulation there (no CUDA toolkit)"
fi
check "make clean" make -s clean
check "nothing is left" test ! -e build

verdict
