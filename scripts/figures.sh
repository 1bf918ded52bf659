#!/usr/bin/env bash
# Figures and numbers of small models on CIFAR-10, as pages: softmax against Fourier-KArAt (vit-tiny, vit-tiny-g3b), and
# KAT against ViT (kat-tiny, vit-tiny), at 32² with 6 blocks of width 64.
#
#     scripts/figures.sh DATA                 trains them for a few epochs first; continues if it was stopped
#     scripts/figures.sh DATA RUN [RUN...]    a page of existing runs, such as those of scripts/reproduce.sh
#     OUT=runs/figures STEPS=500 ...          the settings below, from the environment
#
# DATA is the folder of CIFAR-10's binary version, or the path of cifar10.train.kds without .train.kds. The cost: a step
# of 128 images takes 17 GFLOP, so that three runs of 500 take 26 TFLOP, five and a half minutes at 80 GFLOP/s, the rate
# of 2 cores. A page evaluates each run some 650 times on 200 images, 6 TFLOP per run, mostly for the landscape. An
# epoch has 12,800 images, so that there is a checkpoint every 100 steps.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

out=${OUT:-runs/figures}
steps=${STEPS:-500}
flags="--image-size 32 --patch 4 --dim 64 --depth 6 --heads 4 --steps $steps --train-images 12800 --batch-size 128
       --lr 2e-3 --warmup-epochs 1 --clip-grad 1 --hflip 0.5 --crop-padding 4 --keep-every 1 --log-every 10
       --seed ${SEED:-1} ${FLAGS:-}"
analyze_flags=${ANALYZE_FLAGS:-"--images 200 --grid 13 --products 20"}

[ $# -ge 1 ] || { echo "give CIFAR-10: $0 FOLDER of its binary version, or the path of its .kds files" >&2; exit 2; }
make -s train_kat convert_data analyze || exit 1
data=$1
shift
if [ ! -e "$data.train.kds" ]; then
    [ -e datasets/cifar10.test.kds ] || ./convert_data cifar10 "$data" datasets || exit 1
    data=datasets/cifar10
fi

# page NAME RUN...: in $out/NAME
page() {
    local name=$1
    shift
    echo
    echo "== $name: $*"
    # shellcheck disable=SC2086
    ./analyze report "$@" --data "$data" $analyze_flags --output "$out/$name" >"$out/$name.log" 2>&1 ||
        { echo "The report failed: see $out/$name.log: $(tail -n 1 "$out/$name.log")" >&2; exit 1; }
    echo "$out/$name/report.html, and its pictures and numbers beside it"
}

mkdir -p "$out" || exit 1
if [ $# -gt 0 ]; then
    page report "$@"
    exit
fi
for model in vit-tiny vit-tiny-g3b kat-tiny; do
    echo
    echo "== training $model"
    # shellcheck disable=SC2086
    ./train_kat --model $model --data "$data" $flags --output "$out/$model" --continue >"$out/$model.log" 2>&1 ||
        { echo "Training failed: see $out/$model.log: $(tail -n 1 "$out/$model.log")" >&2; exit 1; }
    tail -n 1 "$out/$model.log"
done
page softmax-g3b "$out/vit-tiny" "$out/vit-tiny-g3b"
page vit-kat "$out/vit-tiny" "$out/kat-tiny"
echo
echo "Took $SECONDS s."
