#!/usr/bin/env bash
# Figures and numbers of the small protocol's models on CIFAR-10, as pages: softmax against Fourier-KArAt (vit-mini,
# vit-mini-g3b), and KAT against ViT (kat-mini, vit-mini).
#
#     scripts/figures.sh DATA                 trains them first, in $OUT, and goes on where it was stopped
#     scripts/figures.sh DATA RUN [RUN...]    a page of runs that are there
#     OUT=runs/figures STEPS=1000 ...         the settings below, from the environment
#
# DATA is the folder of CIFAR-10's binary version, or the path of cifar10.train.kds without .train.kds. What it costs: a
# step of 64 images takes 6 GFLOP (scripts/run_cifar10_small.sh), so three runs of 1000 take 18 TFLOP, four minutes at 80
# GFLOP/s, which 2 cores give. A page evaluates each run some 200 times on 500 images, 3 TFLOP a run. Epochs are of 12,800
# images, so that there is a checkpoint every 200 steps.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/runs.sh

out=${OUT:-runs/figures}
steps=${STEPS:-1000}
flags="--dim 64 --heads 2 --steps $steps --train-images 12800 --batch-size 64 --lr 1e-3 --warmup-epochs 1 --weight-decay 0.05
       --clip-grad 1 --hflip 0.5 --keep-every 1 --log-every 20 --seed ${SEED:-1} ${FLAGS:-}"
analyze_flags=${ANALYZE_FLAGS:-"--images 500"}

[ $# -ge 1 ] || { echo "give the data: $0 FOLDER of CIFAR-10's binary version, or the path of its .kds files" >&2; exit 2; }
make -s train_kat convert_data analyze || exit 1
data=$1
shift
if [ ! -e "$data.train.kds" ]; then
    need_cifar10 "$data"
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
for model in vit-mini vit-mini-g3b kat-mini; do
    echo
    echo "== training $model"
    # shellcheck disable=SC2086
    ./train_kat --model $model --data "$data" $flags --output "$out/$model" --continue >"$out/$model.log" 2>&1 ||
        { echo "Training failed: see $out/$model.log: $(tail -n 1 "$out/$model.log")" >&2; exit 1; }
    tail -n 1 "$out/$model.log"
done
page softmax-g3b "$out/vit-mini" "$out/vit-mini-g3b"
page vit-kat "$out/vit-mini" "$out/kat-mini"
echo
echo "Took $SECONDS s."
