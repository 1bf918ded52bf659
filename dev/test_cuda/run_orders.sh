#!/usr/bin/env bash
# run_orders.sh "ORDERS" PROGRAM...: runs each test in each order of the emulation's threads (on a GPU the order means
# nothing: it is run again). All must pass, and leave the same checksum. The last line, "N passed, N failed", sums what
# the programs print last in each order, and the checksums that agree.
set -u
orders=$1 passed=0 failed=0
shift
for program; do
    sums=
    for order in $orders; do
        if ! output=$(EMU_ORDER=$order EMU_SEPARATE=1 "$program" 2>&1); then
            failed=$((failed + 1))
            echo "$(basename "$program"), order $order:"
            echo "$output" | tail -20
        fi
        passed=$((passed + $(echo "$output" | sed -n '$s/ passed, [0-9]* failed$//p' | grep -x '[0-9]*' || echo 0)))
        sums+=$(echo "$output" | sed -n 's/^checksum //p')$'\n'
    done
    if [ "$(echo -n "$sums" | sort -u | wc -l)" -ne 1 ]; then
        failed=$((failed + 1))
        echo "$(basename "$program"): not the same bits in $orders:" $sums
    else
        passed=$((passed + 1))
    fi
    echo "$(basename "$program"): $(echo "$output" | tail -1)"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
