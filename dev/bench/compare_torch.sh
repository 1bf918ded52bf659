#!/usr/bin/env bash
# Training steps (forward, backward, AdamW) of this trainer compared with PyTorch as typically used, on the CPU: the
# same models from the same weights on the same batch, float32, with the same number of threads, in turn within one run.
#
#     dev/bench/compare_torch.sh [--install] [--quick]
#         --install   first gets PyTorch: PyPI's newest in a virtual environment, $VENV (6 GB: the wheel for CUDA is
#                     the only one there), and Debian's python3-torch; by default, those installed are used
#         --quick     32² in patches of 4 instead of 224² in patches of 16, and fewer rounds
#     MODELS="vit-tiny kat-tiny vit-tiny-g3b" BATCH=16 ROUNDS=9 STEPS=2 THREADS=2 VENV=build/torch-venv ...
#         from the environment: a round times STEPS steps of every program
#
# For each model: ./train_kat --dump-state writes batch, parameters, loss and gradients; every PyTorch loads them, and
# its loss must equal ours to 1e-4 before anything is timed. Then ours, PyTorch as it is (eager) and with torch.compile
# (if available; it needs g++ and Python's headers) are timed by dev/bench/torch_timing.py. The models are in
# dev/bench/torch_models.py. PyTorch uses its fused attention and fused AdamW if it has them; ours also computes the
# gradient's norm and checks for NaN, as in every step.
#
# The machine should be quiet: PyTorch's waiting threads spin and ours sleep, so that other work slows PyTorch more. The
# last columns: time relative to ours, the median over the rounds, lowest and highest round. Every measurement is in
# build/compare_torch.csv. Only this comparison needs Python.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

install=no size=224 patch=16 rounds=9 steps=2
for argument in "$@"; do
    case $argument in
    --install) install=yes ;;
    --quick) size=32 patch=4 rounds=5 steps=3 ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
done
models=${MODELS:-"vit-tiny kat-tiny vit-tiny-g3b"}
batch=${BATCH:-16}
rounds=${ROUNDS:-$rounds}
steps=${STEPS:-$steps}
threads=${THREADS:-$(nproc)}
venv=${VENV:-build/torch-venv}
work=build/compare_torch
csv=build/compare_torch.csv
mkdir -p "$work"
export OMP_NUM_THREADS=$threads TORCHINDUCTOR_CACHE_DIR=$PWD/$work/inductor PYTHONDONTWRITEBYTECODE=1

if [ $install = yes ]; then
    . scripts/setup.sh
    install_missing python3-torch python3-venv python3-dev g++
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || exit 1
    "$venv/bin/pip" install -q --upgrade torch numpy || exit 1
fi
make -s train_kat || exit 1

pythons=() names=()
for python in "$venv/bin/python" /usr/bin/python3; do
    version=$("$python" -c 'import numpy, torch; print(torch.__version__)' 2>"$work/import.log") || continue
    pythons+=("$python")
    names+=("PyTorch ${version%%+*}")
done
if [ ${#pythons[@]} = 0 ]; then
    echo "no PyTorch found: run $0 --install" >&2
    exit 1
fi

echo "$threads threads, images $size x $size, patch $patch, batch $batch, $rounds rounds of $steps steps"
echo "model,program,round,ms" >"$csv"
for model in $models; do
    flags="--model $model --image-size $size --patch $patch --batch-size $batch --threads $threads --device cpu"
    dump=$work/$model.safetensors
    ./train_kat $flags --dump-state "$dump" >"$work/$model.log" || { cat "$work/$model.log"; exit 1; }
    programs=("ours=stdbuf -oL ./train_kat $flags --overfit-batch --log-every 1 --steps 1000000 --lr 1e-6 --min-lr 1e-6 \
              --warmup-epochs 0")
    echo
    for i in "${!pythons[@]}"; do
        python=${pythons[i]} name=${names[i]}
        agreement=$("$python" dev/bench/torch_worker.py check "$dump" "$threads")
        status=$?
        echo "$model, $name: $agreement"
        [ $status = 0 ] || exit 1
        programs+=("$name eager=$python dev/bench/torch_worker.py eager $dump $threads")
        if "$python" -c 'import torch; torch.compile' 2>"$work/import.log"; then
            programs+=("$name compiled=$python dev/bench/torch_worker.py compiled $dump $threads")
        fi
    done
    printf '\n%-14s %-26s %9s %9s %9s   %s\n' step program ms images/s "to ours" "lowest - highest"
    python3 dev/bench/torch_timing.py "$model" "$batch" "$rounds" "$steps" "$csv" "$work" \
        "${programs[@]}" || exit 1
done
echo
echo "every measurement is in $csv"
