#!/usr/bin/env bash
# ./compare_runs: the list with every state, means over seeds against a plain form, tests, differences, bad input.
# Needs TRAIN_KAT and COMPARE_RUNS (default ./train_kat, ./compare_runs). Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
compare=$(realpath "${COMPARE_RUNS:-$(dirname "$program")/compare_runs}")
cd "$work" || exit 1

tells() { prints "$compare" "$@"; }
tiny=(--model vit-mini --dim 8 --heads 1 --depth 1 --mlp-ratio 2 --image-size 16 --batch-size 4 --train-images 40
      --test-images 30 --log-every 3 --threads 1)
run() { "$train" "${tiny[@]}" "${@:2}" --output "$1" >"$(basename "$1").log" 2>&1; } # run FOLDER FLAGS...
for seed in 1 2 3; do
    run runs/plain/s$seed --epochs 2 --seed $seed
    run runs/fast/s$seed --epochs 2 --seed $seed --lr 0.02
done
run runs/fast/s10 --epochs 2 --seed 10 --lr 0.02

# ---- the list
value() { # value FOLDER COLUMN: the last of its log
    awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) { at[$i] = i } next }
                          $at[name] != "" { v = $at[name] } END { print v }' "runs/$1/metrics.csv"
}
top1=$(printf '%.2f ± %.2f' "$(value plain/s2 test_top1)" "$(value plain/s2 test_top1_se)")
check "a run's line" tells 0 "^ runs/plain/s2 vit-mini procedural 2 2/2 $top1 [0-9.]+ finished$"
check "of a folder alone" tells 0 "^ runs/fast/s10 .* finished$" runs/fast
check "of a run itself" tells 0 "^ runs/fast/s10 " runs/fast/s10/
check "in the order of names" test "$("$compare" list runs | awk 'NR > 1 { print $1 }' | paste -sd' ')" = \
    "runs/fast/s1 runs/fast/s2 runs/fast/s3 runs/fast/s10 runs/plain/s1 runs/plain/s2 runs/plain/s3"
"$train" "${tiny[@]}" --steps 1000000 --output runs/long >long.log 2>&1 &
pid=$!
until [ "$(cat runs/long/metrics.csv 2>/dev/null | wc -l)" -gt 2 ]; do kill -0 $pid || break; sleep 0.02; done
check "a run that goes on" tells 0 "^ runs/long vit-mini procedural 42 .* going on$"
kill -TERM $pid
wait $pid
check "that was stopped" tells 0 "^ runs/long .* stopped$"
"$train" --resume runs/long >resumed.log 2>&1 &
pid=$!
until grep -qs "^step" resumed.log; do kill -0 $pid || break; sleep 0.02; done
kill -KILL $pid
wait $pid 2>/dev/null
check "that was killed" tells 0 "^ runs/long .* failed$"
run runs/burst --epochs 2 --lr 100 --warmup-epochs 0 --clip-grad 0
grep -q "is not finite" burst.log && check "that ended in NaN" tells 0 "^ runs/burst .* failed$"
mkdir runs/young && cp runs/long/config.txt runs/young
check "without a row yet" tells 0 "^ runs/young vit-mini procedural 42 - - - failed$"
mkdir runs/broken && echo "lr much" >runs/broken/config.txt
check "a configuration that cannot be read is told" tells 0 "^note: runs/broken/config.txt: --lr much is not a number"
check "and others are listed" grep -q "runs/young" says.log
rm -r runs/broken

# ---- means over seeds
csv() { # csv GROUP COLUMN
    "$compare" table runs/plain/s? runs/fast/s? --format csv | awk -F, -v row="$1" -v name="$2" '
        NR == 1 { for (i = 1; i <= NF; i++) { at[$i] = i } } NR == row + 1 { print $at[name] }'
}
plain() { # plain COLUMN: mean, deviation of its last values, and paired t of fast against plain, by awk
    for seed in 1 2 3; do echo "$(value plain/s$seed "$1") $(value fast/s$seed "$1")"; done | awk '
        { n++; s += $1; q += $1 * $1; d += $2 - $1; e += ($2 - $1) ^ 2 }
        END { v = (q - s * s / n) / (n - 1); w = (e - d * d / n) / (n - 1)
              printf "%.2f %.2f %.2f\n", s / n, sqrt(v < 0 ? 0 : v), (w > 0 ? d / n / sqrt(w / n) : 0) }'
}
read -r mean sd t <<<"$(plain test_top1)"
near() { awk -v a="$1" -v b="$2" -v limit="$3" 'BEGIN { exit !(a != "" && a - b <= limit && b - a <= limit) }'; }
check "two groups" test "$(csv 1 runs),$(csv 2 runs),$(csv 3 runs)" = "vit-mini,vit-mini --lr 0.02,"
check "three seeds each" test "$(csv 1 n) $(csv 1 seeds) $(csv 2 seeds)" = "3 1 2 3 1 2 3"
check "the mean" near "$(csv 1 top1)" "$mean" 0.006
check "the deviation" near "$(csv 1 top1_sd)" "$sd" 0.006
check "paired, for the seeds are the same" test "$(csv 2 test)" = paired
check "t" near "$(csv 2 t)" "$t" 0.02
check "20 steps" test "$(csv 1 steps)" = 20
check "Markdown" tells 0 "^\| vit-mini --lr 0.02 \| 3 \| [0-9.]+ ± [0-9.]+ \| .* \| [+-][0-9.]+(, paired t\(2\) = .*, p = [0-9.e-]+)? \|$" \
    table runs/plain runs/fast/s1 runs/fast/s2 runs/fast/s3
check "other seeds: Welch's" tells 0 "^vit-mini --lr 0.02,4,.*,1 2 3 10,.*,welch," table runs/plain runs/fast --format csv
check "the baseline may be another" tells 0 "^\| vit-mini --lr 0.02 .* baseline \|$" table runs/plain runs/fast --baseline runs/fast/s2
check "which is one of them" tells 2 "is none of the runs" table runs/plain --baseline runs/fast/s2
check "runs that are not at their end are left out" tells 0 "^Not finished, and left out: [23]$" table runs
check "unless asked for" tells 0 "^\| vit-mini --steps 1000000 .*\| 2 \|" table runs --unfinished
check "which is on or off" tells 2 "maybe" table runs --unfinished=maybe
check "none is finished" tells 1 "none of the 1 runs is finished" table runs/long

# ---- what differs
check "diff" tells 0 "^ --lr 0.001 0.02$" diff runs/plain/s1 runs/fast/s1
check "nothing else" test "$(wc -l <says.log)" = 2
check "the same" tells 0 "differ in no option" diff runs/plain/s1 runs/plain/s1/

# ---- bad input
check "no such folder" tells 1 "there is no run nowhere" nowhere
mkdir empty
check "no run in it" tells 1 "there is no run in or under empty" list empty

check "an unknown option" tells 2 "unknown option --csv" table runs --csv
check "diff of one" tells 2 "diff takes two runs" diff runs/plain/s1
check "table of nothing" tells 2 "expected runs" table
check "--help" tells 0 "Welch's" --help
verdict
