#!/usr/bin/env bash
# The trainer on the GPU (or under the emulation) against that on the CPU: gradients of the same batch, losses of the
# first steps, runs that one begins and the other ends, and the same bytes in every run.
# Needs TRAIN_KAT, TRAIN_KATCU and COMPARE (compare_dumps.c), the programs. The gradients are compared JOBS at a time, as
# many as there are cores unless told. Prints "N passed, N failed" last.
set -u
program=$(realpath "${TRAIN_KAT:-./train_kat}") gpu=$(realpath "${TRAIN_KATCU:-./train_katcu}") compare=$(realpath "$COMPARE")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cpu=$work/train_kat # never the GPU
printf '#!/bin/sh\nexec "%s" --device cpu "$@"\n' "$program" >"$cpu" && chmod +x "$cpu"
export OMP_NUM_THREADS=1
passed=0 failed=0

check() { # check SENTENCE COMMAND...: the command must succeed
    local sentence=$1
    shift
    if "$@" >"$work/check.log" 2>&1; then
        passed=$((passed + 1))
        if [ -n "${VERBOSE:-}" ]; then echo "$sentence: $(tail -1 "$work/check.log")"; fi
    else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
        tail -5 "$work/check.log"
    fi
}

emulated() { [[ $gpu == *_emu ]]; }

# What may differ. A GPU fuses other multiplications and additions than the emulation, has exponentials and reciprocals of
# its own, and its library of products adds in an order of its own. bf16 rounds to 2^-9: gradients of a batch of 4 are
# right to some percent. The emulation has 6e-6 (--mlp prelu) and 0.08 (kat-mini), most 1e-6 and 0.02.
if emulated; then fp32=1e-5 bf16=0.1 losses=5e-5; else fp32=3e-5 bf16=0.15 losses=1e-4; fi
# With --stream-grad bf16 alone both round the same values alike, but for those that lie halfway: 1e-6, and 8e-5 where there
# is one. A place that is left out makes 3e-3 and more.
if emulated; then rounded=3e-4; else rounded=1e-3; fi

tiny=(--dim 24 --depth 2 --image-size 16 --batch-size 4 --train-images 40 --test-images 6 --seed 3)

dumps_agree() { # NAME TOLERANCE ARGUMENTS...: of the files, of the largest value of each tensor
    local name=$work/$1 tolerance=$2 status
    shift 2
    "$cpu" "${tiny[@]}" "$@" --precision fp32 --dump-state "$name-cpu.safetensors" &&
        "$gpu" "${tiny[@]}" "$@" --dump-state "$name-gpu.safetensors" &&
        "$compare" "$name-cpu.safetensors" "$name-gpu.safetensors" "$tolerance"
    status=$?
    rm -f "$name"-?pu.safetensors
    return $status
}

choices() { "$cpu" --help | tr -s ' ' | sed -n "s/^ --$1 \([^ ]*\).*/\1/p" | tr '|' '\n'; }
gradients=() # each a tolerance, and flags
for option in mlp attn basis; do
    for choice in $(choices $option); do gradients+=("$fp32 --model vit-mini --attn karat --$option $choice"); done
done
check "all choices were found" test ${#gradients[@]} -gt 20
while read -r flags; do gradients+=("$fp32 $flags"); done <<'MODELS'
--model vit-mini
--model kat-mini --depth 2
--model kat-mini-g3u --depth 2
--model vit-mini-g3b --basis bspline --karat-base silu
--model vit-mini-g3b --softmax-heads 1 --karat-bias block
--model vit-mini-g3b --karat-order phi-w --karat-bias block
--model vit-mini-g3b --karat-order phi-phi --softmax-heads 1
--model vit-mini-g3u --karat-order phi-phi --basis mexican-hat --karat-base gelu --depth 2
--model vit-mini-g3b --karat-full on --karat-bias block
--model vit-mini-g3b --karat-projection simplex
--model vit-mini-g3b --karat-projection l1 --karat-order phi-w --basis rational
--model vit-mini-g3b --karat-projection simplex --karat-project z
--model vit-mini --mlp silu --recompute --depth 2
--model vit-mini --layer-scale 0.1
--model vit-mini --pool avg
--model vit-mini --dim 21 --heads 3 --mlp relu
--model vit-mini --attn mixing --depth 2
--model kat-mini --attn softmax-rank --depth 2
--model vit-mini --attn linear --dim 21 --depth 2 --recompute
--model vit-mini --attn-gate --attn-init impulse --depth 2 --recompute
--model kat-mini-g3b --softmax-heads 1 --attn-gate
--model kan-mini --depth 2
--model vit-mini --reg-tokens 1 --no-embed-class --pool avg --fc-norm --qkv-bias off
--model convit-mini --depth 3 --qkv-bias on --layer-scale 0.1 --recompute
--model convit-mini --depth 2 --local-blocks 1 --attn karat --karat-mode universal --mlp gr-kan
--model swin-mini --dim 8 --depth 1,2,1 --heads 2,2,4 --window-size 2 --mlp gr-kan --layer-scale 0.1 --recompute
--model swin-mini --dim 8 --depth 2,1 --heads 2,4 --window-size 2 --attn karat --karat-rank 3 --softmax-heads 1
--model swin-mini --dim 8 --depth 2,2 --heads 2,4 --window-size 2 --attn karat --karat-mode universal --karat-mask literal
--model vit-mini --hflip 0.5 --crop-padding 5 --mixup 0.8 --smoothing 0.1
--model vit-mini --hflip 0.5 --crop-padding 4 --cutmix 1 --image-size 32 --patch 8
--model vit-mini --hflip 0.5 --rrc --mixup 0.8 --cutmix 1 --reprob 0.5 --remode const --image-size 40 --patch 8 --data-on-gpu off
--model vit-mini --hflip 0.5 --rrc --aa rand-m9-mstd0.5-inc1 --mixup 0.8 --cutmix 1 --mix-order bytes --reprob 0.5 --recount 3 --remode const --aug-repeats 2 --image-size 40 --patch 8
MODELS
while read -r flags; do gradients+=("$bf16 --precision bf16 $flags"); done <<'MODELS'
--model vit-mini
--model kat-mini --depth 2
--model vit-mini-g3b
--model kat-mini-g3b --dim 64 --heads 2 --image-size 32
--model vit-mini --attn sigmoid
--model vit-mini --attn mixing
--model vit-mini --attn softmax-rank
--model vit-mini --attn linear
--model vit-mini --attn-gate
--model kan-mini
--model vit-mini-g3b --karat-order phi-phi
--model convit-mini --depth 3
--model swin-mini --dim 8 --depth 2,1 --heads 1,2 --window-size 2 --patch 4
MODELS

while read -r flags; do gradients+=("$rounded --stream-grad bf16 $flags"); done <<'MODELS'
--model vit-mini
--model kat-mini-g3b --depth 2 --layer-scale 0.1
--model vit-mini --pool avg --dim 21 --heads 3
--model vit-mini --recompute --depth 3
--model convit-mini --depth 3
--model swin-mini --dim 8 --depth 2,1 --heads 2,2 --window-size 2
MODELS
gradients+=("$bf16 --precision bf16 --stream-grad bf16 --model kat-mini --depth 2")

gradients_one() { # NUMBER TOLERANCE FLAGS...
    dumps_agree "$@" >"$work/gradients-$1.log" 2>&1
    echo $? >"$work/gradients-$1.status"
}
gradients_ended() {
    cat "$work/gradients-$1.log"
    return "$(cat "$work/gradients-$1.status")"
}
for i in "${!gradients[@]}"; do
    while [ "$(jobs -pr | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do wait -n; done
    # shellcheck disable=SC2086
    gradients_one "$i" ${gradients[i]} &
done
wait
for i in "${!gradients[@]}"; do check "gradients of ${gradients[i]#* }" gradients_ended "$i"; done

# Step, loss and gradient norm of training; then step, loss and top-1 of the last evaluation
losses() {
    awk -F, 'NR > 1 && $3 != "" { print $1, $3, $7 }
             $12 != "" { last = $1 " " $12 " " $14 } END { print last }' "$1/metrics.csv"
}
same_losses() { # of two runs, but for $losses of each
    paste -d ' ' <(losses "$1") <(losses "$2") | awk -v tolerance="$losses" '
        function apart(a, b) { return a !~ /^[0-9.e+-]+$/ || b !~ /^[0-9.e+-]+$/ || (a - b) ^ 2 > (tolerance * b) ^ 2 }
        NF != 6 || $1 != $4 || apart($2, $5) || apart($3, $6) { print "differs:", $0; bad++ }
        END { exit bad || NR < 2 }'
}

run=(--model kat-mini-g3b "${tiny[@]}" --steps 7 --log-every 1 --drop-path 0.3 --mixup 0.8 --cutmix 1 --hflip 0.5 --rrc --smoothing 0.1
     --reprob 0.25 --crop-pct 0.9 --rational-lr-scale 0.5 --model-ema-decay 0.9 --clip-grad 1 --grad-accum-steps 2 --depth 2
     --min-lr 0.001 --warmup-epochs 0)
check "a run on the CPU" "$cpu" "${run[@]}" --output "$work/cpu"
check "a run on the GPU" "$gpu" "${run[@]}" --output "$work/gpu"
check "the same losses in the first steps" same_losses "$work/cpu" "$work/gpu"
# under the emulation with its threads in another order, and its streams as late as they may be; images copied batch by batch
check "another run on the GPU" env EMU_ORDER=reverse EMU_LATE=1 "$gpu" "${run[@]}" --data-on-gpu off --output "$work/again"
for file in last.resume last last.ema best; do
    check "the same bytes in $file" cmp "$work/gpu/$file.safetensors" "$work/again/$file.safetensors"
done

# Real images, one epoch with a short last batch
fashion=/usr/share/datasets/fashion-mnist convert=$(dirname "$program")/convert_data
real=(--model kat-mini-g3b --data "$work/fashion-mnist" --image-size 28 --patch 4 --dim 24 --depth 2 --train-images 256
      --test-images 24 --batch-size 13 --steps 20 --log-every 1 --warmup-epochs 0 --hflip 0.5 --crop-padding 2)
if [ -d $fashion ]; then
    check "images of Fashion-MNIST" "$convert" fashion-mnist $fashion "$work"
    check "KAT + KArAt on 256 images on the CPU" "$cpu" "${real[@]}" --output "$work/real_cpu"
    check "KAT + KArAt on 256 images on the GPU" "$gpu" "${real[@]}" --output "$work/real_gpu"
    check "the same losses in 20 steps" same_losses "$work/real_cpu" "$work/real_gpu"
else
    echo "SKIPPED, not passed: 20 steps on 256 images (package dataset-fashion-mnist is not there)"
fi

# Kernels launched one by one, and as graphs: the same. The graphs' first steps are single kernels too.
same_run() { # FOLDER COMMAND...
    "${@:2}" "${run[@]}" --output "$work/$1" && cmp "$work/gpu/last.resume.safetensors" "$work/$1/last.resume.safetensors"
}
check "the same bytes without graphs" same_run kernels "$gpu" --cuda-graph off
check "and late" same_run kernels_late env EMU_ORDER=priority:1 EMU_LATE=1 "$gpu" --cuda-graph off
graph_launches() { # 7 steps of 2 micro-batches, the first and the last of a step two graphs; all but the first time of each
    EMU_TRACE=1 "$gpu" "${run[@]}" --output "$work/trace" 2>&1 | grep -c '^EMU GRAPH' | grep -x $((6 + 6 + 6))
}
without_graphs() {
    same_run no_graphs env EMU_GRAPHS=0 "$gpu" >"$work/no_graphs.log" && grep "steps are not captured" "$work/no_graphs.log"
}
registers_known() { # to the emulation, which checks launches by them; not those of kernels that are newer than the table
    EMU_TRACE=1 "$gpu" "${run[@]}" --steps 1 --output "$work/registers" 2>&1 |
        awk '/^EMU LAUNCH/ { n++; known += !/ registers 0 / } END { print known, "of", n; exit !(known > n / 2) }'
}
if emulated; then
    check "registers of the kernels are known" registers_known
    check "the number of graphs launched" graph_launches
    check "the same bytes where graphs cannot be captured" without_graphs
fi

# What the kernels join: branches with their factors, dropped or not, kept or calculated again
same_run_as_cpu() { # FLAGS...
    "$cpu" "${run[@]}" --model vit-mini --steps 3 "$@" --output "$work/cpu_x" --overwrite &&
        "$gpu" "${run[@]}" --model vit-mini --steps 3 "$@" --output "$work/gpu_x" --overwrite &&
        same_losses "$work/cpu_x" "$work/gpu_x"
}
tensors() { tail -c +$((9 + $(od -A n -t u8 -N 8 "$1"))) "$1"; } # without the header, which has the options
same_bits_again() {
    "$gpu" "${run[@]}" --recompute --output "$work/again_in_backward" &&
        cmp <(tensors "$work/gpu/last.safetensors") <(tensors "$work/again_in_backward/last.safetensors")
}
check "--recompute has the same bits" same_bits_again
check "LayerScale, drop path, --recompute" same_run_as_cpu --layer-scale 0.5 --recompute
check "LayerScale, drop path, mean of tokens" same_run_as_cpu --layer-scale 0.5 --pool avg --grad-accum-steps 1
check "--overfit-batch" "$gpu" "${tiny[@]}" --model vit-mini --overfit-batch --steps 100 --lr 0.01 --warmup-epochs 0
shows_same_batch() { # FLAGS...: the same picture, to the bit
    "$cpu" "${tiny[@]}" "$@" --show-batch "$work/cpu.png" && "$gpu" "${tiny[@]}" "$@" --show-batch "$work/gpu.png" &&
        cmp "$work/cpu.png" "$work/gpu.png"
}
if ldd "$gpu" | grep -q libpng; then
    check "--show-batch" shows_same_batch
    check "--show-batch, cropped and mixed" shows_same_batch --rrc --hflip 0.5 --mixup 1
    check "--show-batch, images copied" shows_same_batch --crop-padding 2 --cutmix 1 --data-on-gpu off
fi
check "--profile prints the parts" grep -q "^norm" <("$gpu" "${tiny[@]}" --profile 2)

# Weights that decay by -999 a step overflow. The last step is not applied: what is left is the step before it.
overflow=("${tiny[@]}" --model vit-mini --lr 100 --min-lr 100 --weight-decay 10 --warmup-epochs 0 --checkpoint-every 1000)
stops_before_overflow() {
    "$gpu" "${overflow[@]}" --steps 40 --output "$work/overflow" >"$work/overflow.log" 2>&1
    [ $? = 1 ] && grep -q "The update was not applied" "$work/overflow.log" || return 1
    local step
    step=$(sed -n 's/.*step \([0-9]*\) is not finite.*/\1/p' "$work/overflow.log")
    echo "not finite in step $step"
    [ "$step" -gt 2 ] && "$gpu" "${overflow[@]}" --steps $((step - 1)) --output "$work/before" &&
        cmp <(tensors "$work/overflow/last.safetensors") <(tensors "$work/before/last.safetensors")
}
check "an update that is not finite is not applied" stops_before_overflow

# Stopped behind the allocation, by weights that are not there
memory_as_planned() {
    "$gpu" --model kat-mini-g3b --train-images 64 --test-images 4 "$@" --init-from "$work/none" >"$work/memory.log" 2>&1
    awk '$1 == "memory" { planned = $2 } $1 == "allocated" { used = $2 } END { print "planned", planned, "used", used
         exit !(planned > 0 && used / planned < 1.05 && used / planned > 0.95) }' "$work/memory.log"
}
if emulated; then # a GPU gives it in pieces of some MB
    check "memory is as planned" memory_as_planned
    check "memory is as planned, bf16" memory_as_planned --precision bf16 --model-ema-decay 0.9 --drop-path 0.1
    check "memory is as planned, --recompute" memory_as_planned --recompute --dim 192 --batch-size 16
fi

# A run that one begins and the other ends. What was planned as 2 steps goes on to 7: at a constant learning rate the
# number of steps is in the file alone.
begin_and_end() { # FIRST SECOND FOLDER
    "$1" "${run[@]}" --steps 2 --output "$work/$3" && sed -i 's/"steps":"2"/"steps":"7"/' "$work/$3/last.resume.safetensors" &&
        "$2" --resume "$work/$3"
}
reads_files() { ! "$1" --eval "$work/gpu/last.safetensors" 2>&1 | grep -q "built without cJSON"; }
if reads_files "$cpu" && reads_files "$gpu"; then
    check "begun on the CPU, ended on the GPU" begin_and_end "$cpu" "$gpu" begun_by_cpu
    check "the same losses" same_losses "$work/cpu" "$work/begun_by_cpu"
    check "begun on the GPU, ended on the CPU" begin_and_end "$gpu" "$cpu" begun_by_gpu
    check "the same losses" same_losses "$work/cpu" "$work/begun_by_gpu"
    check "weights of the GPU on the CPU" "$cpu" --eval "$work/gpu/last.safetensors"
else
    echo "SKIPPED, not passed: what reads weights: --resume, --eval (the trainers were built without libcjson)"
fi

# Products chosen by timing: what goes on takes what was chosen, also where the clock would choose otherwise by now
tuned=(--model vit-mini --tune-products on)
tuned_lines() { awk 'NR > 1 && NF != 20 { exit 1 } END { print NR; exit NR < 10 }' "$work/tuned/products.txt"; }
goes_on() { # FOLDER [EDIT]: begins there, edits the choices, and ends
    "$gpu" "${run[@]}" "${tuned[@]}" --steps 2 --output "$work/$1" &&
        sed -i 's/"steps":"2"/"steps":"7"/' "$work/$1/last.resume.safetensors" && sed -i "${2:-}" "$work/$1/products.txt" &&
        "$gpu" --resume "$work/$1" >"$work/goes_on.log" &&
        cmp <(tensors "$work/tuned/last.safetensors") <(tensors "$work/$1/last.safetensors")
}
others_taken() { # 1 part for the 2 of the emulation's quickest algorithm
    ! goes_on tuned_otherwise '2,$s/200000002/1/' && grep "are there" "$work/goes_on.log" &&
        grep -q "files in" "$work/goes_on.log"
}
says_of_another_machine() {
    goes_on tuned_elsewhere '1s/cublasLt/cublasLt 0/' && grep "are timed anew" "$work/goes_on.log"
}
check "a run with timed products" "$gpu" "${run[@]}" "${tuned[@]}" --output "$work/tuned"
check "a line a product" tuned_lines
check "what goes on has the same bits" goes_on tuned_again
if emulated; then
    check "what goes on takes the choices that are there" others_taken
    check "choices of another machine are not taken" says_of_another_machine
fi

# A PNG, to be had where there is libpng
same_classes() {
    local of=(--init-from "$work/gpu/last.safetensors" --classify "$work/sheet.png" -k 10)
    "$cpu" "${of[@]}" >"$work/classes_cpu" && "$gpu" "${of[@]}" >"$work/classes_gpu" && paste -d' ' "$work"/classes_?pu |
        awk 'NR > 1 { n = NF / 2; d = $1 - $(n + 1); bad += d * d > 0.0005; count += $2 == "%" } END { exit bad || count != 10 }'
}
if reads_files "$cpu" && "$cpu" "${tiny[@]}" --show-batch "$work/sheet.png" >/dev/null 2>&1; then
    check "--classify: the CPU's probabilities" same_classes
fi

says() { # says CODE TEXT PROGRAM ARGUMENTS...: exit code and a part of what is printed
    local code=$1 text=$2
    shift 2
    "$@" >"$work/says.log" 2>&1
    local got=$?
    [ $got = "$code" ] && grep -qF -- "$text" "$work/says.log" && return
    echo "exit $got (want $code): $(tail -1 "$work/says.log")"
    return 1
}
check "bf16 wants multiples of 8" says 2 "use --precision fp32" "$gpu" "${tiny[@]}" --mlp gelu --dim 21 --heads 3 \
    --precision bf16
check "--device cpu is refused" says 2 "use ./train_kat" "$gpu" "${tiny[@]}" --device cpu
check "--help names the program" says 0 "Usage: ./train_katcu [" "$gpu" --help
check "the CPU has no tf32" says 2 "./train_katcu" "$cpu" "${tiny[@]}" --precision tf32

check "a run in bf16" "$gpu" "${run[@]}" --precision bf16 --output "$work/bf16"
rounded_once() { # the weights at the start, and their running mean for two evaluations of two batches each
    EMU_TRACE=1 "$gpu" "${run[@]}" --precision bf16 --output "$work/rounded" 2>&1 |
        grep -c "^EMU LAUNCH bf16_copy" | grep -x 3
}
if emulated; then
    check "an evaluation rounds the running mean once" rounded_once
fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
