#!/usr/bin/env bash
# ViT, KAT, ViT + KArAt and KAT + KArAt of one small size on CIFAR-10, equal steps, several seeds: mean ± standard deviation.
#
#     scripts/run_cifar10_small.sh [FOLDER]     FOLDER holds data_batch_1.bin ... test_batch.bin (the binary version)
#     SEEDS="1 2 3" STEPS=4000 JOBS=1 ...       the settings below, from the environment
#
# FOLDER is needed once: it is converted to datasets/cifar10.*.kds. What it costs: 32² in 4x4 patches is N = 65 tokens;
# C = 64, H = 2, L = 4 is 15.1 M multiply-adds forward for ViT and KAT (16.7 M with KArAt), 0.09 to 0.10 GFLOP to train
# on an image. A run is STEPS x 64 images: 4000 steps are 256,000 images (5.1 epochs), 23 to 26 TFLOP, 5 to 6 minutes at
# 80 GFLOP/s, which 2 cores give. JOBS=2 runs two at a time with half the threads each: the results are the same bits,
# and the whole is faster.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/runs.sh

models=${MODELS:-"vit-mini kat-mini vit-mini-g3b kat-mini-g3b"}
seeds=${SEEDS:-"1 2"}
steps=${STEPS:-4000}
jobs=${JOBS:-1}
out=${OUT:-runs/cifar10-small}
flags="--data datasets/cifar10 --dim 64 --heads 2 --steps $steps --batch-size 64 --lr 1e-3 --warmup-epochs 0.2
       --weight-decay 0.05 --clip-grad 1 --hflip 0.5 --eval-every 1 --log-every 100 ${FLAGS:-}"

make -s train_kat convert_data || exit 1
need_cifar10 "$@"

threads=$(($(nproc) / jobs))
for seed in $seeds; do for model in $models; do echo "$model $seed"; done; done |
    xargs -P "$jobs" -L 1 bash -c 'mkdir -p "$0" && ./train_kat --model "$3" --seed "$4" --threads "$2" $1 \
        --output "$0/$3-s$4" --overwrite >"$0/$3-s$4.log" 2>&1 && tail -n 2 "$0/$3-s$4.log" | head -n 1 | sed "s/^/$3 seed $4: /" \
        || { echo "$3 seed $4 failed: see $0/$3-s$4.log" >&2; exit 255; }' "$out" "$flags" "$((threads > 0 ? threads : 1))" || exit 1

echo
echo "| model | top-1, % (n = $(echo "$seeds" | wc -w)) | test loss | ms a step |"
echo "|---|---|---|---|"
for model in $models; do
    columns=()
    for column in "test_top1 %.2f" "test_loss %.4f" "ms_per_step %.0f"; do
        columns+=("$(for seed in $seeds; do last "${column% *}" "$out/$model-s$seed"; done | mean_sd "${column#* }")")
    done
    echo "| $model | ${columns[0]} | ${columns[1]} | ${columns[2]% ±*} |"
done
