#!/usr/bin/env bash
# roofline.sh COUNTS: what roofline.awk expects of the steps counted there, with the loops and registers of dev/test_cuda
set -eu
here=$(dirname "${BASH_SOURCE[0]}")
awk -f "$here/roofline.awk" "$here/../test_cuda/instructions.txt" "$here/../test_cuda/resources.txt" "$1"
