#!/usr/bin/env bash
# scripts/reproduce.sh: every row a command, with the papers' counts of parameters; the list; runs that are stopped and
# go on, their table; what is refused. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
compare=$(realpath "${COMPARE_RUNS:-$(dirname "$program")/compare_runs}")
export TRAIN_KAT=$train COMPARE_RUNS=$compare
mkdir "$work/bin" && printf '#!/bin/sh\n' >"$work/bin/nvidia-smi" && chmod +x "$work/bin/nvidia-smi" # no GPU
export PATH=$work/bin:$PATH

reproduce() { scripts/reproduce.sh "$@" --output "$work/runs" "${extra[@]}"; }
answers() { # answers STATUS TEXT ARGUMENTS...
    local status=$1 text=$2
    shift 2
    reproduce "$@" >"$work/answer" 2>&1
    local got=$?
    [ $got = "$status" ] && grep -qF -- "$text" "$work/answer" && return
    echo "exit $got (want $status): $(tail -n 1 "$work/answer")"
    return 1
}

# ---- the rows: no data is needed
extra=()
scripts/reproduce.sh --check >"$work/checked" 2>&1
check "each row is a command with the paper's parameters" test $? = 0
check "they are all there" test "$(grep -c ' ok$' "$work/checked")" -ge 240
check "and nothing else" bash -c "! grep -v ' ok$' '$work/checked'"
# table row, our count, the paper's
while read -r name row ours theirs; do
    check "$name $row has $ours parameters" grep -qE "^paper +$name +$row +$ours $theirs +ok" "$work/checked"
done <<'COUNTS'
kat-imagenet tiny 5718328 5.7M
kat-imagenet kan-base 199795432 199.8M
karat-cifar10 tiny-g3b 6292282 6.29M
karat-cifar10 base-g1u 85948186 85.95M
karat-imagenet small-g3b 23582536 23.58M
karat-transfer-flowers102 tiny 5544102 –
COUNTS
mkdir -p "$work/other/scripts" # as if the paper had printed another count
sed 's/ 6.29M$/ 6.28M/' scripts/reproduce.sh >"$work/other/scripts/reproduce.sh"
check "a wrong count is seen" bash -c "! bash '$work/other/scripts/reproduce.sh' --check karat-ranks >'$work/seen'"
check "and told" grep -q "karat-ranks *r12 .* 6292282 6.28M *not the paper's count" "$work/seen"
check "the list" answers 0 "tiny-g3b            76.69 / 98.57   –"
check "it ends with all tables" answers 0 "karat-more: "
check "no such table" answers 2 "there is no table karat-nothing: kat-imagenet" karat-nothing
check "no such row" answers 2 "karat-grids has no row tiny-g2b" karat-grids tiny-g1b tiny-g2b
check "a row of the other scale" answers 2 "no row base-g1b at --scale small" karat-grids base-g1b --scale small
check "a table of the other scale" answers 2 "karat-imagenet has no rows at --scale small" karat-imagenet --scale small
check "no such option" answers 2 "unknown option --seed" karat-grids --seed 3
check "no number" answers 2 "--jobs x is no number" karat-grids --jobs x
none=$work/none
check "without its data set a row says how to make it" \
    answers 1 "./convert_data cifar100 FOLDER $none, FOLDER with train.bin" karat-cifar100 tiny --data-root "$none"
check "likewise of shards" answers 1 "convert_data imagenet FOLDER $none/imagenet" kat-imagenet tiny --data-root "$none"

# ---- two rows, two seeds, stopped and gone on
tiny=(--data procedural --train-images 96 --test-images 60 --image-size 16 --dim 8 --heads 1 --depth 1 --batch-size 8
      --epochs 1 --log-every 5)
extra=(-- "${tiny[@]}" --steps 240)
rows=(karat-controls softmax g3b --scale small --seeds 2)
set -m # a group of its own, as on a terminal
reproduce "${rows[@]}" >"$work/stopped" 2>&1 &
script=$!
set +m
for _ in $(seq 500); do
    [ "$(cat "$work"/runs/small/procedural/karat-cifar/vit-tiny,*/s1/metrics.csv 2>/dev/null | wc -l)" -gt 4 ] && break
    sleep 0.02
done
kill -INT -- -$script
wait $script
check "Ctrl-C ends it with exit status 3" test $? = 3
check "it says how to go on" grep -q "^stopped: the same command goes on" "$work/stopped"
check "its run has saved" grep -qE "s1: stopped at step" "$work/stopped"
check "the list tells of it" answers 0 "–, 1 begun"
check "and what it would cost here" \
    grep -qE "GFLOP an image, 240 steps of 8, .* PFLOP; .* images/s here: .* hours a run" "$work/stopped"
check "the same command goes on" answers 0 "s1: best top-1" "${rows[@]}" --jobs 2
csv=("$work"/runs/small-karat-controls,*.csv) md=("$work"/runs/small-karat-controls,*.md)
column() { # column ROW NAME FILE
    awk -F, -v row="$1" -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) { at[$i] = i } next }
                                      $2 == row { print $at[name] }' "$3"
}
check "two runs each" test "$(column softmax n "${csv[0]}") $(column g3b n "${csv[0]}")" = "2 2"
check "beside the paper's" grep -q "^| g3b | 76.69 | [0-9.]* ± [0-9.]* | 2 | " "${md[0]}"
check "rows not run are there as such" grep -q "^| relu | – | – | 0 | " "${md[0]}"
near() { # near MEAN SD ONE OTHER: to the digits printed
    awk -v m="$1" -v sd="$2" -v a="$3" -v b="$4" 'BEGIN { d = m - (a + b) / 2; e = sd ^ 2 - (a - b) ^ 2 / 2
        exit !(d * d < 4e-4 && e * e < 4e-3 * (sd + 0.1) ^ 2) }'
}
# shellcheck disable=SC2046
check "mean and standard deviation" \
    near $(column g3b top1 "${csv[0]}") $(column g3b top1_sd "${csv[0]}") $(column g3b each_top1 "${csv[0]}")
logs=$(cat "$work"/runs/small/procedural/karat-cifar/*/s?.log | wc -l)
check "what is done is not repeated" answers 0 "| g3b | 76.69 |" "${rows[@]}"
check "not a line more" test "$(cat "$work"/runs/small/procedural/karat-cifar/*/s?.log | wc -l)" = "$logs"
check "rows of the same flags share their runs" bash -c "scripts/reproduce.sh --output '$work/runs' ${extra[*]} |
    grep -qE '^  r12 .*n = 2'"
check "a run never stopped" scripts/reproduce.sh "${rows[@]}" --output "$work/whole" "${extra[@]}"
whole=("$work"/whole/small-karat-controls,*.csv)
for row in softmax g3b; do
    check "$row: the same losses" test "$(column $row loss "${csv[0]}")" = "$(column $row loss "${whole[0]}")"
done

# ---- what it refuses
sed -i '1s/$/ --lr 7/' "$work"/runs/small/procedural/karat-cifar/vit-tiny,*/s1.command
sed -i 's/^best top-1/best/' "$work"/runs/small/procedural/karat-cifar/vit-tiny,*/s1.log
check "a run of other flags is not taken" answers 1 "was begun as another run, by --recipe karat-cifar" "${rows[@]}"
extra=(-- "${tiny[@]}" --steps 2)
check "fine-tuning needs its start" \
    answers 1 "scripts/reproduce.sh karat-imagenet tiny-g3b makes it" karat-transfer-svhn tiny-g3b --seeds 1
extra=(-- "${tiny[@]}" --steps 2 --lr nothing)
check "a wrong flag" answers 1 "--lr nothing is not a number" karat-grids tiny-g1b --scale small

# ---- two GPUs, as nvidia-smi and a trainer that are not there say: a run at a time on each
gpus=$work/gpus
{
    echo '#!/bin/sh'
    echo 'case "$*" in *--dry-run*) exec "'"$train"'" "$@" ;; *--profile*) exit 1 ;; esac'
    echo "sleep 0.2; echo \"\$CUDA_VISIBLE_DEVICES \$*\" >>'$gpus'; exit 1"
} >"$work/on_gpu" && chmod +x "$work/on_gpu"
printf '#!/bin/sh\necho "GPU 0: a card"; echo "GPU 1: a card"\n' >"$work/bin/nvidia-smi"
extra=(-- --data procedural)
on_gpus() { TRAIN_KAT=$work/on_gpu answers 1 "failed" "$@" --scale small --seeds 1; }
check "runs that fail are told" on_gpus karat-ranks --jobs 2
check "each GPU has one, in bf16" bash -c "[ \$(head -n 2 '$gpus' | cut -c1 | sort | tr -d '\\n') = 01 ] &&
    [ \$(grep -c -- '--precision bf16' '$gpus') = 3 ]"
CUDA_VISIBLE_DEVICES=3 on_gpus karat-orders
check "or those that CUDA_VISIBLE_DEVICES leaves" test "$(tail -n 3 "$gpus" | cut -c1 | tr -d '\n')" = 333
verdict
