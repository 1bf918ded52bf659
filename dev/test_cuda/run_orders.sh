#!/usr/bin/env bash
# run_orders.sh PROGRAM: runs a test in each of the $ORDERS of the emulation's threads (on a GPU the order means nothing:
# it is run again). All must pass, and leave the same checksum. The last line, "N passed, N failed", sums what the program
# prints last in each order, and one for the checksums if they agree.
set -u
program=$1 passed=0 failed=0 sums=
for order in $ORDERS; do
    if ! output=$(EMU_ORDER=$order EMU_SEPARATE=1 "$program" 2>&1); then
        failed=$((failed + 1))
        echo "order $order:"
        echo "$output" | tail -20
    fi
    passed=$((passed + $(echo "$output" | sed -n '$s/ passed, [0-9]* failed$//p' | grep -x '[0-9]*' || echo 0)))
    sums+=$(echo "$output" | sed -n 's/^checksum //p')$'\n'
done
if [ "$(echo -n "$sums" | sort -u | wc -l)" -ne 1 ]; then
    failed=$((failed + 1))
    echo "not the same bits in $ORDERS:" $sums
else
    passed=$((passed + 1))
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
