#!/usr/bin/env bash
# The trainer as a process: what it prints, leaves, refuses, and how it survives being killed.
# Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"

# A run of several seconds that uses everything random
small=(--model kat-mini-g3b --dim 24 --depth 2 --image-size 16 --batch-size 8 --train-images 400 --test-images 40 --seed 7
       --steps 90 --log-every 5 --drop-path 0.2 --mixup 0.8 --cutmix 1 --hflip 0.5 --crop-padding 2 --model-ema-decay 0.95)
tiny=(--model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12)

# ---- the command line
check "--help exits 0" says 0 "--karat-rank" --help
check "--list exits 0" says 0 "NAME-gNb" --list
while read -r line; do
    check "--list has $line" bash -c "'$train' --list | tr -s ' ' | grep -qx ' $line'"
done <<'LINES'
vit-tiny 192 3 12 224, 16 5717416 5526346
kat-base 768 12 12 224, 16 86568568 85807258
prelu linear, x or w x where x <= 0 with one trained w a layer, linear
LINES
check "unknown flag" says 2 "did you mean --epochs" --epocs 3
check "not a number" says 2 "--batch-size foo is not a whole number" --batch-size foo
check "unknown model" says 2 "--model vit-huge is unknown" --model vit-huge
check "missing data" says 1 "absent.train.kds" --data "$work/absent"
check "too few classes" says 2 "fewer than" --classes 3
check "groups do not divide" says 2 "multiples of --rational-groups" --dim 36 --heads 3 --model kat-mini
check "folder that cannot be made" says 1 "cannot make the folder" "${tiny[@]}" --output /proc/none/run
check "resume without a run" says 1 "last.resume.safetensors" --resume "$work/none"
# KAT's published script, but for program and folder (dev/test/test_timm_flags.c has all of them)
script=(datasets/imagenet --model kat_tiny_swish_patch16_224 -b 128 --opt adamw --lr 1e-3 --weight-decay 0.05 --epochs 300
        --mixup 0.8 --cutmix 1.0 --sched cosine --smoothing 0.1 --drop-path 0.1 --aa rand-m9-mstd0.5 --remode pixel --reprob 0.25
        --amp --crop-pct 0.875 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --model-ema --model-ema-decay 0.9999
        --output output/kat_tiny_swish_patch16_224 --log-wandb)
check "timm's command line" says 0 "training   300 epochs; a step is 1 micro-batch of 128 images" "${script[@]}" --classes 1000 --dry-run
check "has the model" grep -q "^parameters 5718328 in" "$work/says.log"
check "names in a line what it passes over" grep -q "^timm .*(--recipe timm); without meaning here: --log-wandb; --amp is bf16$" "$work/says.log"
check "what is not there is refused" says 2 "--opt lamb is not here: there is adamw" --opt lamb
check "a run by timm's flags" says 0 "best top-1" procedural "${tiny[@]}" --epochs 1 --opt adamw --pin-mem --output "$work/timm"
check "leaves them in its own" grep -qx "recipe timm" "$work/timm/config.txt"
check "and goes on by the same" says 0 "finished" --resume "$work/timm" "${tiny[@]}" --epochs 1 --opt adamw
while read -r model classes count; do
    check "$model has $count parameters" says 0 "parameters $count in" --model "$model" --classes "$classes" --dry-run
done <<'COUNTS'
vit-tiny 1000 5717416
kat-base 1000 86568568
vit-tiny-g3b 10 6292282
vit-tiny-g3u 10 5590174
vit-small-g3b 1000 23582536
vit-small-g3u 1000 22178320
vit-base-g1b 10 87508426
vit-base-g1u 10 85948186
kan-tiny 1000 12790696
COUNTS

# ---- --device: who trains, shown by a train_katcu that says what it was asked for and is beside a copy of the program
mkdir "$work/pair" && cp "$program" "$work/pair/train_kat"
pair() { # pair CODE TEXT ARGUMENTS...
    (cd / && train=$work/pair/train_kat && says "$@")
}
gpu_trainer() { # gpu_trainer STATUS: of its trial run
    printf '#!/bin/sh\ncase "$*" in "--dry-run --classes 10") exit %s;; esac\necho "GPU: $*"\nexit 7\n' "$1" >"$work/pair/train_katcu"
    chmod +x "$work/pair/train_katcu"
}
silent_about_devices() { "$work/pair/train_kat" --dry-run >"$work/silent.log" && ! grep -q "^device" "$work/silent.log"; }
plan=(--model vit-mini --dry-run)
check "cuda without train_katcu" pair 1 "build it by make train_katcu" "${plan[@]}" --device cuda
check "auto without train_katcu is silent" silent_about_devices
gpu_trainer 0
check "auto takes the GPU" pair 7 "GPU: ${plan[*]}" "${plan[@]}"
check "and says so" grep -qx "device     the GPU, by ./train_katcu" "$work/says.log"
check "cuda takes the GPU" pair 7 "GPU: ${plan[*]} --device cuda" "${plan[@]}" --device cuda
check "cpu does not" pair 0 "machine" "${tiny[@]}" --profile 1 --device cpu
check "a wrong flag is found before" pair 2 "did you mean --epochs" --epocs 3
check "--help names the program" pair 0 "Usage: ./train_kat [" --help
gpu_trainer 1
check "auto without a GPU stays" pair 0 "parameters" "${plan[@]}"
check "and says so" grep -qx "device     the CPU: ./train_katcu does not find a GPU" "$work/says.log"
check "cuda without a GPU leaves the word to train_katcu" pair 7 "GPU:" "${plan[@]}" --device cuda
check "the device is no property of a run" bash -c "cd '$work/pair' && ./train_kat ${tiny[*]} --steps 1 --output run &&
    ./train_kat --resume run --device cpu && rm train_katcu && ./train_kat --resume run && ./train_kat --eval run/last.safetensors"

# ---- one run, never interrupted
check "a run ends well" "$train" "${small[@]}" --output "$work/whole"
for file in metrics.csv config.txt best.safetensors last.safetensors last.ema.safetensors last.resume.safetensors; do
    check "the run leaves $file" test -s "$work/whole/$file"
done
check "a second run there is refused" says 2 "already holds a run" "${small[@]}" --output "$work/whole"

# ---- the same run, killed again and again, each time a little later: a machine that is busy gets on, too
attempt=0 tenths=0
while ! grep -q '^90,.*,[0-9.]*$' "$work/killed/metrics.csv" 2>/dev/null && [ $attempt -lt 60 ]; do
    attempt=$((attempt + 1)) tenths=$((tenths + 1 + tenths / 8))
    start=(--output "$work/killed" --overwrite)
    [ -e "$work/killed/last.resume.safetensors" ] && start=(--resume "$work/killed")
    { timeout -s KILL "$((tenths / 10)).$((tenths % 10))5" "$train" "${small[@]}" --checkpoint-every 4 "${start[@]}" >"$work/killed.log" 2>&1; } 2>/dev/null # the shell reports each kill
done
check "the killed run was killed at least once ($attempt starts)" test $attempt -ge 2
"$train" "${small[@]}" --resume "$work/killed" >/dev/null 2>&1 # if the kill came after the last step
check "killed and resumed: the same losses" diff <(losses "$work/whole") <(losses "$work/killed")
for file in last.safetensors last.ema.safetensors best.safetensors last.resume.safetensors; do
    check "killed and resumed: the same bytes in $file" cmp "$work/whole/$file" "$work/killed/$file"
done
check "no temporary file is taken for a checkpoint" says 0 "top-1" --eval "$work/killed/last.safetensors"
check "a changed configuration is refused" says 2 "--lr was 0.001, is now 0.5" --resume "$work/killed" --lr 0.5

# ---- one thread and two
check "a run with one thread" "$train" "${small[@]}" --threads 1 --output "$work/one"
check "one thread, two threads: the same bytes" cmp "$work/one/last.resume.safetensors" "$work/whole/last.resume.safetensors"

# ---- bf16: another run than in fp32, and the same for any number of threads and when it was stopped
low=("${small[@]}" --steps 80 --precision bf16)
check "a run in bf16, two threads" "$train" "${low[@]}" --threads 2 --output "$work/low"
check "bf16 changes the run" bash -c "! diff -q <(head -3 '$work/low/metrics.csv' | cut -d, -f1-7) <(head -3 '$work/whole/metrics.csv' | cut -d, -f1-7)"
"$train" "${low[@]}" --threads 1 --output "$work/low_stopped" >"$work/low_stopped.log" 2>&1 &
pid=$!
for _ in $(seq 1000); do grep -q "^step" "$work/low_stopped.log" && break; sleep 0.01; done
kill -TERM $pid
wait $pid
check "it is stopped on its way" test $? = 3
check "a run in bf16 goes on, with one thread" "$train" --resume "$work/low_stopped" --threads 1
check "bf16, stopped and with one thread: the same bytes" cmp "$work/low/last.resume.safetensors" "$work/low_stopped/last.resume.safetensors"
check "resuming it in fp32 is refused" says 2 "--precision was bf16, is now fp32" --resume "$work/low" --precision fp32
check "the line on bf16" says 0 "bf16       operands of the linear layers; " "${tiny[@]}" --steps 1 --precision bf16 --output "$work/line"
check "gradcheck refuses bf16" says 2 "leave --precision out" "${tiny[@]}" --precision bf16 --gradcheck
# ---- the stream's gradient in bf16
stream=("${small[@]}" --stream-grad bf16)
check "a run with the stream's gradient in bf16" "$train" "${stream[@]}" --threads 2 --output "$work/stream"
check "the same with one thread" "$train" "${stream[@]}" --threads 1 --output "$work/stream_one"
check "the same bytes" cmp "$work/stream/last.resume.safetensors" "$work/stream_one/last.resume.safetensors"
first_losses() { awk -F, 'NR <= 3 { print $1, $3, $7 }' "$work/$1/metrics.csv"; }
check "it is another run than in fp32" bash -c "! diff -q <(echo '$(first_losses stream)') <(echo '$(first_losses whole)')"
check "the configuration has it" says 2 "--stream-grad was bf16, is now fp32" --resume "$work/stream" --stream-grad fp32
check "gradcheck refuses it" says 2 "leave that out" "${tiny[@]}" --stream-grad bf16 --gradcheck
check "tf32 is refused" says 2 "./train_katcu" "${tiny[@]}" --precision tf32

# ---- memory and time
peak_is_near() { # of a run: within 5 % of what was printed before anything was allocated
    "$train" --data procedural --test-images 8 --train-images 32 --steps 2 "$@" --output "$work/memory" --overwrite >"$work/memory.log" 2>&1
    awk '$1 == "memory" { estimate = $2 } $1 == "peak" { peak = $3 } END { print "estimate", estimate, "peak", peak
         exit !(estimate > 0 && peak / estimate < 1.05 && peak / estimate > 0.95) }' "$work/memory.log"
}
if ! grep -qa __asan_init "$program"; then # it needs memory of its own
    check "peak memory is as estimated" peak_is_near --model vit-tiny-g3b --image-size 224 --patch 16 --batch-size 4
    check "peak memory is as estimated, with --recompute" peak_is_near --model kat-tiny --image-size 128 --patch 8 --batch-size 4 --recompute
fi
check "--profile prints the parts" says 0 "activation" "${tiny[@]}" --profile 2

# ---- Ctrl-C
set -m # else bash starts it with SIGINT ignored
"$train" "${small[@]}" --steps 100000 --output "$work/stopped" >"$work/stopped.log" 2>&1 &
pid=$!
set +m
for _ in $(seq 100); do grep -q "^step" "$work/stopped.log" && break; sleep 0.1; done
kill -INT $pid
wait $pid
check "Ctrl-C ends the run with exit status 3" test $? = 3
check "Ctrl-C tells how to go on" grep -q -- "--resume $work/stopped" "$work/stopped.log"
check "Ctrl-C saves" says 0 "top-1" --eval "$work/stopped/last.safetensors"

# ---- a run that starts anew in the folder of another, killed before its first checkpoint
"$train" "${small[@]}" --steps 100000 --checkpoint-every 100000 --output "$work/one" --overwrite >"$work/anew.log" 2>&1 &
pid=$!
for _ in $(seq 100); do grep -q "^step" "$work/anew.log" && break; sleep 0.1; done
{ kill -KILL $pid && wait $pid; } 2>/dev/null
check "the other run's state is not taken for its own" says 1 "last.resume.safetensors" --resume "$work/one"

# ---- a NaN is not applied
cp "$work/whole/last.safetensors" "$work/nan.safetensors"
size=$(stat -c %s "$work/nan.safetensors")
printf '\377\377\377\177' | dd of="$work/nan.safetensors" bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null # head.bias[9] = NaN
check "a NaN stops the run and is named" says 1 "the first bad tensor is parameter head.bias" "${small[@]}" --init-from "$work/nan.safetensors" --any-weights --output "$work/nan"
check "the state before the NaN is saved" test -s "$work/nan/last.resume.safetensors"

# ---- weights in and out
"$train" "${tiny[@]}" --steps 1 --init-from "$work/whole/last.safetensors" --output "$work/init" >"$work/init.log" 2>&1
check "init-from lists what is only in the file" grep -q "only in the file, left out: blocks.1.norm1.weight" "$work/init.log"
check "init-from counts what it loaded" grep -Eq "[0-9]+ of [0-9]+ tensors loaded" "$work/init.log"
"$train" "${tiny[@]}" --image-size 24 --steps 1 --init-from "$work/whole/last.safetensors" --output "$work/larger" >"$work/larger.log" 2>&1
check "init-from resizes the positions" grep -q "resized from 4x4 to 6x6 patches: pos_embed is (1,17,24) in the file, (1,37,24) here" "$work/larger.log"
check "eval of a truncated file is refused" bash -c "head -c 5000 '$work/whole/last.safetensors' >'$work/cut.safetensors'; ! '$train' --eval '$work/cut.safetensors'"
check "per-class evaluation" says 0 " of " --eval "$work/whole/best.safetensors" --per-class
check "dump-state in bf16" says 0 "wrote" "${small[@]}" --precision bf16 --dump-state "$work/state.safetensors"
check "dump-state writes a file" says 0 "wrote $work/state.safetensors" "${small[@]}" --dump-state "$work/state.safetensors"
for name in input target logits loss param.cls_token grad.blocks.1.attn.karat.coef karat_mode rational_form; do
    check "the dump holds $name" grep -qa "\"$name\"" "$work/state.safetensors"
done
# the tensors that each variant is told by, under the spec's names
while IFS='|' read -r flags names; do
    check "dump-state of $flags" says 0 "wrote" "${tiny[@]}" $flags --dump-state "$work/variant.safetensors"
    for name in $names; do
        check "the dump of $flags holds $name" grep -qa "\"grad.$name\"" "$work/variant.safetensors"
    done
done <<'VARIANTS'
--attn sigmoid|blocks.0.attn.qkv.weight
--attn relu|blocks.0.attn.proj.bias
--attn linear|blocks.0.norm1.weight
--attn mixing|blocks.0.attn.mixing
--attn softmax-rank|blocks.0.attn.rank.down blocks.0.attn.rank.up
--attn karat|blocks.0.attn.karat.coef blocks.0.attn.karat.scale_basis blocks.0.attn.karat.scale_base blocks.0.attn.karat.proj.weight
--attn karat --karat-mode universal --karat-bias block|karat.coef karat.proj.weight karat.proj.bias
--attn karat --karat-full on|blocks.0.attn.karat.coef
--attn karat --karat-order phi-w|blocks.0.attn.karat.coef blocks.0.attn.karat.proj.weight
--attn karat --karat-order phi-phi|blocks.0.attn.karat.coef blocks.0.attn.karat.outer.coef blocks.0.attn.karat.outer.scale_basis
--attn karat --karat-projection simplex --softmax-heads 2|blocks.0.attn.karat.coef
--attn karat --karat-projection l1 --karat-project z|blocks.0.attn.karat.proj.weight
--mlp relu|blocks.0.mlp.fc1.weight
--mlp silu|blocks.0.mlp.fc2.bias
--mlp prelu|blocks.0.mlp.act.weight
--mlp gr-kan|blocks.0.mlp.act1.weight_numerator blocks.0.mlp.act2.weight_denominator
--mlp rational|blocks.0.mlp.act.weight_numerator blocks.0.mlp.act.weight_denominator
--mlp kan|blocks.0.mlp.fc1.weight blocks.0.mlp.fc1.spline_weight blocks.0.mlp.fc2.spline_weight blocks.0.mlp.fc2.bias
VARIANTS
# ---- the first batch as a picture: procedural images of 16 pixels, two lines of caption where they are mixed
shows() { # HEIGHT WIDTH ARGUMENTS...: what a PNG says of itself
    local size
    size=$(printf '%08x%08x' "$2" "$1")
    says 0 "wrote $work/batch.png: 4 of the 4 images of the first batch" "${tiny[@]}" "${@:3}" --show-batch "$work/batch.png" &&
        [ "$(od -An -tx1 -j16 -N8 "$work/batch.png" | tr -d ' \n')" = "$size" ]
}
if "$train" "${tiny[@]}" --show-batch "$work/batch.png" 2>&1 | grep -q "install libpng-dev"; then
    check "without libpng there is no picture" test ! -e "$work/batch.png"
else
    check "show-batch" shows 296 274
    check "show-batch, mixed" shows 318 274 --mixup 1
    check "show-batch refuses a folder" says 1 "cannot write $work" "${tiny[@]}" --show-batch "$work"
fi
check "overfit-batch reaches its goal" says 0 "the first batch is learned" "${tiny[@]}" --overfit-batch --steps 800 --lr 0.003 --warmup-epochs 0 --dim 48
check "gradcheck passes" says 0 " 0 failed" "${tiny[@]}" --model kat-mini-g3b --dim 24 --depth 1 --gradcheck

verdict
