#!/usr/bin/env bash
# KArAt's choices one by one on CIFAR-10 at 32², each row several seeds at equal steps: mean ± standard deviation.
#
#     scripts/run_ablation.sh                      after ./convert_data cifar10 FOLDER datasets
#     SEEDS="1 2 3" STEPS=1000 JOBS=2 ROWS="softmax g3b" scripts/run_ablation.sh
#     FLAGS="--precision bf16" OUT=runs/bf16 scripts/run_ablation.sh       flags for every row
#
# Every row is ViT with C = 48, H = 2, L = 2 and 4x4 patches (N = 65 tokens), and with Fourier-KArAt, grid 3, rank 12,
# blockwise, unless it says otherwise. A run of 1000 steps of 64 images takes 1 to 2 minutes of one core. Runs that are
# there already are not repeated: an interrupted table goes on.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/runs.sh

seeds=${SEEDS:-"1 2 3"}
steps=${STEPS:-1000}
jobs=${JOBS:-$(nproc)}
out=${OUT:-runs/ablation}
data=${DATA:-datasets/cifar10}
common="--model vit-mini-g3b --data $data --dim 48 --heads 2 --depth 2 --steps $steps --batch-size 64 --lr 1e-3
        --warmup-epochs 0.2 --weight-decay 0.05 --clip-grad 1 --hflip 0.5 --eval-every 0 --log-every 100 --threads 1
        ${FLAGS:-}"

# name|what|flags
table='softmax|softmax|--attn softmax
g3b|KArAt: Fourier, G 3, r 12|
g3u|universal: one operator for all blocks|--karat-mode universal
g1|G 1|--grid 1
g5|G 5|--grid 5
g7|G 7|--grid 7
g11|G 11|--grid 11
r2|r 2|--karat-rank 2
r4|r 4|--karat-rank 4
full|full rank: N x N functions, no W|--karat-full on
rational|rational (5,4)|--basis rational
mexican-hat|Mexican hat|--basis mexican-hat
morlet|Morlet|--basis morlet
dog|derivative of a Gaussian|--basis dog
meyer|Meyer|--basis meyer
shannon|Shannon|--basis shannon
bspline|B-spline, k 3, G 3|--basis bspline
chebyshev|Chebyshev, degree 3|--basis chebyshev
polynomial|polynomial, degree 3|--basis polynomial
simplex|sigma projected on the simplex|--karat-projection simplex
l1|sigma projected on the l1 ball|--karat-projection l1
phi-w|order: Phi(W A)|--karat-order phi-w
phi-phi|order: Phi Phi(A), no W|--karat-order phi-phi
hybrid|hybrid: head 0 softmax, head 1 KArAt|--softmax-heads 1
sigmoid|sigmoid attention|--attn sigmoid
relu|ReLU(A) / N|--attn relu
mixing|learned N x N weights that ignore A|--attn mixing
softmax-rank|softmax, then a linear map of rank 12|--attn softmax-rank
linear|linear attention|--attn linear'

rows=${ROWS:-$(echo "$table" | cut -d'|' -f1)}
row() { echo "$table" | grep "^$1|"; } # the line of a name

make -s train_kat || exit 1
mkdir -p "$out"

# run_one OUT COMMON NAME SEED FLAGS: one run, unless its last evaluation is there
run_one() {
    local folder=$1/$3-s$4
    [ -e "$folder/seconds" ] && return
    local TIMEFORMAT=%U
    { time ./train_kat $2 $5 --seed "$4" --output "$folder" --overwrite >"$folder.log" 2>&1; } 2>"$folder.time" ||
        { echo "$3 seed $4 failed: see $folder.log" >&2; return 255; }
    mv "$folder.time" "$folder/seconds"
    echo "$3 seed $4: $(grep '^best' "$folder.log" | cut -d';' -f1)"
}
export -f run_one

for seed in $seeds; do
    for name in $rows; do
        row "$name" >/dev/null || { echo "no row $name" >&2; exit 2; }
        printf '%s\0%s\0%s\0%s\0%s\0' "$out" "$common" "$name" "$seed" "$(row "$name" | cut -d'|' -f3)"
    done
done | xargs -0 -n 5 -P "$jobs" bash -c 'run_one "$@"' run_one || exit 1

echo
echo "| row | what | parameters | top-1, % (n = $(echo "$seeds" | wc -w)) | test loss | core seconds a run |"
echo "|---|---|---|---|---|---|"
for name in $rows; do
    parameters=$(awk '/^parameters/ { print $2 }' "$out/$name-s${seeds%% *}.log")
    columns=()
    for column in "test_top1 %.2f" "test_loss %.4f"; do
        columns+=("$(for seed in $seeds; do last "${column% *}" "$out/$name-s$seed"; done | mean_sd "${column#* }")")
    done
    seconds=$(for seed in $seeds; do cat "$out/$name-s$seed/seconds"; done | mean_sd %.0f)
    echo "| $name | $(row "$name" | cut -d'|' -f2) | $parameters | ${columns[0]} | ${columns[1]} | ${seconds% ±*} |"
done
cat "$out"/*/seconds | awk '{ sum += $1 } END { printf "\n%d runs, %.0f core minutes in all\n", NR, sum / 60 }'
