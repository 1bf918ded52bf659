#!/usr/bin/env bash
# ViT-Tiny and ViT-Tiny + Fourier-KArAt on CIFAR-10 at 224² by the recipe of KArAt's paper, beside its accuracies.
#
#     scripts/karat_cifar10.sh [FOLDER]     FOLDER holds data_batch_1.bin ... test_batch.bin (the binary version), once
#     MODELS="vit-tiny vit-tiny-g3b" SEEDS="1 2 3" EPOCHS=100 BATCH=32 FLAGS="" OUT=runs/karat-cifar10 ...
#
# On a GPU where one is there (in bf16); on the CPU an epoch takes about an hour of 2 cores. The learning rate follows the
# batch size as in the paper, 5e-4 BATCH / 512. Runs that ended are not repeated, interrupted ones go on.
# The recipe lacks RandAugment and colour jitter here, which this trainer does not have: FLAGS can add what it gets. Drop
# path, random erasing and precision are not printed in the paper; mixup and cutmix have the usual 0.8 and 1.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/runs.sh

models=${MODELS:-"vit-tiny vit-tiny-g3b"}
seeds=${SEEDS:-"1 2 3"}
epochs=${EPOCHS:-100}
batch=${BATCH:-32}
out=${OUT:-runs/karat-cifar10}
lr=$(awk -v batch="$batch" 'BEGIN { print 5e-4 * batch / 512 }')
flags="--data datasets/cifar10 --image-size 224 --patch 16 --epochs $epochs --batch-size $batch --lr $lr --min-lr 1e-5
       --warmup-lr 1e-6 --warmup-epochs 5 --opt-eps 1e-6 --weight-decay 0.05 --clip-grad 1 --model-ema-decay 0.99992
       --rrc on --ratio 0.67 1.5 --train-interpolation random --hflip 0.5 --mixup 0.8 --cutmix 1 --smoothing 0.1
       --crop-pct 0.9 --log-every 200"

paper() { # top-1 and top-5 of the paper's table
    case $1 in
    vit-tiny) echo '72.76 / 98.14' ;;      vit-tiny-g3b) echo '76.69 / 98.57' ;;  vit-tiny-g3u) echo '75.56 / 98.48' ;;
    vit-small) echo '81.08 / 99.02' ;;     vit-small-g3b) echo '79.78 / 98.70' ;; vit-small-g3u) echo '79.52 / 98.85' ;;
    vit-base) echo '83.45 / 99.19' ;;      vit-base-g1b) echo '81.81 / 99.01' ;;  vit-base-g1u) echo '80.75 / 98.76' ;;
    *) echo – ;;
    esac
}

make -s train_kat convert_data || exit 1
if nvidia-smi -L >/dev/null 2>&1; then
    make -s train_katcu || exit 1
    flags="$flags --precision bf16"
fi
need_cifar10 "$@"

for seed in $seeds; do for model in $models; do
    run=$out/$model-s$seed
    mkdir -p "$out"
    if ! grep -q '^best top-1' "$run.log" 2>/dev/null; then
        ./train_kat --model "$model" $flags --seed "$seed" --output "$run" --continue ${FLAGS:-} >>"$run.log" 2>&1
        case $? in
        0) ;;
        3) echo "$model seed $seed was stopped: the same command goes on" >&2; exit 3 ;;
        *) echo "$model seed $seed failed: see $run.log" >&2; exit 1 ;;
        esac
    fi
    echo "$model seed $seed: $(grep '^best' "$run.log" | cut -d';' -f1)"
done; done

echo
echo "| model | top-1, % (n = $(echo "$seeds" | wc -w)) | top-5, % | test loss | the paper's top-1 / top-5 (n = 1) | ms a step |"
echo "|---|---|---|---|---|---|"
for model in $models; do
    columns=()
    for column in "test_top1 %.2f" "test_top5 %.2f" "test_loss %.4f" "ms_per_step %.1f"; do
        columns+=("$(for seed in $seeds; do last "${column% *}" "$out/$model-s$seed"; done | mean_sd "${column#* }")")
    done
    echo "| $model | ${columns[0]} | ${columns[1]} | ${columns[2]} | $(paper "$model") | ${columns[3]% ±*} |"
done
