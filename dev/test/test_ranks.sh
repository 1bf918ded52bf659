#!/usr/bin/env bash
# One run on several processes by MPI: the same bytes in its files on any number of them, on one node and on several, killed
# and gone on with on another number; one set of lines is printed, one sentence where something is refused.
# Without MPI, and without mpirun, what needs them is skipped. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
ranks=$PWD/scripts/ranks.sh
cd "$work" || exit 1
export ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} # MPI keeps memory to the end

# Everything random is on; with A micro-batches of 4 images a step
run=(--model kat-mini-g3b --dim 24 --depth 2 --image-size 16 --batch-size 4 --train-images 90 --test-images 22 --seed 7
     --steps 12 --log-every 3 --drop-path 0.2 --mixup 0.8 --cutmix 1 --hflip 0.5 --crop-padding 2 --model-ema-decay 0.95
     --clip-grad 1 --checkpoint-every 4 --keep-every 2 --threads 1)
tiny=(--model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12 --threads 1)

says_to() { # says_to "VARIABLE=VALUE..." CODE TEXT ARGUMENTS...: of a process with such an environment
    local set=$1
    shift
    # shellcheck disable=SC2163
    (for variable in $set; do export "$variable"; done; says "$@")
}
silent() { # silent "VARIABLE=VALUE..." CODE ARGUMENTS...: prints nothing at all
    local set=$1 code=$2 output
    shift 2
    # shellcheck disable=SC2086
    output=$(env $set "$train" "$@" 2>&1)
    [ $? = "$code" ] && [ -z "$output" ]
}

# ---- an environment alone
check "an environment that is none" says_to "RANK=8 WORLD_SIZE=8" 2 "RANK=8 is not below WORLD_SIZE=8: unset them, or start the program by torchrun" "${tiny[@]}"
check "one process of a launcher is as if there were none" says_to "RANK=0 WORLD_SIZE=1" 0 "a step is 1 micro-batch of 4 images" "${tiny[@]}" --dry-run
check "so is a command in a batch script of Slurm" says_to "SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_LOCALID=0" 0 "a step is 1 micro-batch of" "${tiny[@]}" --dry-run
check "of four, rank 0 tells the plan, with a micro-batch for each" says_to "RANK=0 WORLD_SIZE=4" 0 "a step is 4 micro-batches of 4 images" "${tiny[@]}" --dry-run
for tells in --help --list --dry-run; do
    check "$tells: the others say nothing" silent "RANK=3 WORLD_SIZE=4" 0 "${tiny[@]}" $tells
done

# Beside a program for the GPU, which says what it was given
mkdir beside && cp "$program" beside/train_kat && printf '#!/bin/sh\necho "rank $RANK: $*"\n' >beside/train_katcu && chmod +x beside/train_katcu
handed_over() { [ "$(RANK=$1 WORLD_SIZE=2 beside/train_kat --device cuda --seed 5)" = "rank $1: --device cuda --seed 5" ]; }
for rank in 0 1; do check "--device cuda, rank $rank: it goes on there by itself" handed_over $rank; done

if ! says_to "RANK=0 WORLD_SIZE=2" 2 "finds 1: use its mpirun" "${tiny[@]}" >/dev/null; then
    check "a program without MPI says so" says_to "RANK=0 WORLD_SIZE=2" 2 "2 processes were started, but ./train_kat was built without MPI: install libopenmpi-dev" "${tiny[@]}"
    check "and by rank 0 alone" silent "RANK=1 WORLD_SIZE=2" 2 "${tiny[@]}"
    echo "SKIPPED, not passed: runs on several processes (the trainer was built without MPI)"
    verdict
    exit
fi
check "who was started by another launcher is told whose mpirun it takes" says_to "RANK=0 WORLD_SIZE=2" 2 "2 processes were started by torchrun, but ./train_kat is built with" "${tiny[@]}"
if ! command -v "${MPIRUN:-mpirun}" >/dev/null; then
    echo "SKIPPED, not passed: runs on several processes (no mpirun: install openmpi-bin)"
    verdict
    exit
fi

# ---- the same bytes
printf '#!/bin/sh\necho $$ >${OMPI_COMM_WORLD_RANK:-$PMI_RANK}.pid\nexec "%s" "$@"\n' "$train" >known && chmod +x known
printf '#!/bin/sh\nRANKS_NODE=node$((${OMPI_COMM_WORLD_RANK:-$PMI_RANK} %% 2)) exec "%s" "$@"\n' "$train" >two_nodes && chmod +x two_nodes

settings() { grep -v "^output " "$1/config.txt"; }
on() { # on R FOLDER FLAGS...: the run on R processes
    local R=$1 folder=$2
    shift 2
    "$ranks" "$R" "$train" "${run[@]}" "$@" --output "$folder" >"$folder.log" 2>&1
}

"$train" "${run[@]}" --grad-accum-steps 4 --output one >one.log 2>&1
for R in 2 3 4; do
    accumulate=(--grad-accum-steps 4)
    if [ $R = 4 ]; then accumulate=(); fi # what the default is then
    check "4 micro-batches on $R ranks" on $R "on$R" "${accumulate[@]}"
    check "the same bytes as on one" same_run one "on$R"
    check "the same settings" diff <(settings one) <(settings "on$R")
done
check "one of them prints" test "$(grep -c "best top-1" on4.log)" = 1
check "and says how many they are" grep -q "^ranks      4 on 1 node, by .*; 1 thread each" on4.log
check "and where they cannot all work" grep -q "4 micro-batches on 3 ranks: at most 67 % of the ranks' time is put to use" on3.log
check "nobody leaves anything elsewhere" test ! -e runs
check "on two nodes" bash -c "'$ranks' 4 ./two_nodes ${run[*]} --output nodes >nodes.log 2>&1"
check "they are counted" grep -q "^ranks      4 on 2 nodes" nodes.log
check "the same bytes as on one" same_run one nodes
"$train" "${run[@]}" --grad-accum-steps 6 --output six >six.log 2>&1
check "6 micro-batches on 4 ranks" on 4 six4 --grad-accum-steps 6
check "the same bytes as on one" same_run six six4

# Several buckets, each with a state of its own; at the end of an epoch more ranks than batches to evaluate
wide=(--model vit-mini --dim 256 --heads 4 --depth 4 --image-size 16 --patch 8 --batch-size 4 --train-images 40 --test-images 7
      --seed 7 --steps 4 --checkpoint-every 2 --log-every 1 --model-ema-decay 0.9 --clip-grad 1 --drop-path 0.2 --threads 1)
on_wide() { # on_wide R PROGRAM FOLDER
    "$ranks" "$1" "$2" "${wide[@]}" --grad-accum-steps 5 --output "$3" >"$3.log" 2>&1
}
same_wide() {
    local file
    for file in last.safetensors best.safetensors last.resume.safetensors; do cmp "wide1/$file" "$1/$file" || return; done
}
moments() { sed -n 's/.*AdamW and EMA \([0-9]*\).*/\1/p' "$1.log"; } # MB
"$train" "${wide[@]}" --grad-accum-steps 5 --output wide1 >wide1.log 2>&1
check "several buckets on 2 ranks" on_wide 2 "$train" wide2
check "the same bytes as on one" same_wide wide2
check "with less memory for the moments" test "$(moments wide2)" -lt "$(moments wide1)"
check "several buckets on 2 ranks of 2 nodes each" on_wide 4 ./two_nodes wide4
check "the same bytes as on one" same_wide wide4
check "several buckets on nodes of 3 ranks and of 2" on_wide 5 ./two_nodes wide5
check "the same bytes as on one" same_wide wide5

check "with TensorBoard's files, on 2 ranks" on 2 told --grad-accum-steps 4 --tensorboard --metrics-jsonl
check "the same bytes as on one without" same_run one told
check "which one of them writes" test "$(ls told/events.out.tfevents.* | wc -l)" = 1
check "with functions that all know" grep -qa blocks.1.attn.karat.coef told/events.out.tfevents.*

# ---- evaluation
evaluation() { "$@" --eval one/best.safetensors --per-class --threads 1 2>&1 | grep -E "top-1|±"; }
check "an evaluation on 3 ranks, of 6 batches" diff <(evaluation "$train") <(evaluation "$ranks" 3 "$train")
check "on more ranks than batches" diff <(evaluation "$train" --batch-size 8) <(evaluation "$ranks" 4 "$train" --batch-size 8)

# ---- killed, and gone on with
long=("${run[@]}" --grad-accum-steps 4 --steps 200 --checkpoint-every 5 --log-every 1)
"$train" "${long[@]}" --output whole >whole.log 2>&1
"$ranks" 3 ./known "${long[@]}" --output killed >killed.log 2>&1 &
pid=$!
until [ -e killed/last.resume.safetensors ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -KILL "$(cat 2.pid)"
wait $pid 2>/dev/null
check "a rank that is killed ends all" test "$(tail -n 1 killed/metrics.csv | cut -d, -f1)" -lt 200
check "on another number of ranks it goes on" "$ranks" 2 "$train" --resume killed --threads 1 --keep-every 2
check "the same bytes as on one, uninterrupted" same_run whole killed
check "--init-from on two ranks" bash -c "'$ranks' 2 '$train' ${tiny[*]} --steps 3 --dim 24 --grad-accum-steps 2 --model-ema-decay 0.5 --init-from one/last.safetensors --any-weights --output from2 && '$train' ${tiny[*]} --steps 3 --grad-accum-steps 2 --model-ema-decay 0.5 --init-from one/last.safetensors --any-weights --output from1 && cmp from1/last.resume.safetensors from2/last.resume.safetensors"

# ---- what cannot go on
says_on() { # says_on R CODE TEXT ARGUMENTS...: one sentence, from one rank
    local R=$1 code=$2 text=$3
    shift 3
    "$ranks" "$R" "$train" "$@" >says.log 2>&1
    local got=$?
    if [ $got != 0 ] && "${MPIRUN:-mpirun}" --version | grep -q HYDRA; then got=$code; fi # MPICH may tell the signal that it ended others by
    [ $got = "$code" ] && [ "$(grep -cF -- "$text" says.log)" = 1 ] && [ "$(grep -o "error: " says.log | wc -l)" = 1 ] && return
    echo "exit $got (want $code): $(grep "error: " says.log)"
    return 1
}
check "a wrong flag" says_on 2 2 "did you mean --epochs" --epocs 3
check "more ranks than micro-batches" says_on 3 2 "3 ranks, but --grad-accum-steps 2 gives work to 2 of them. It counts over all ranks here (timm: on each): for 2 on each say 6" "${tiny[@]}" --grad-accum-steps 2
check "--gradcheck is for one process" says_on 2 2 "--gradcheck is for one process, and 2 were started: leave" "${tiny[@]}" --gradcheck
check "no data" says_on 2 1 "absent.train.kds" --data "$work/absent"
check "a folder that holds a run" says_on 2 2 "already holds a run" "${run[@]}" --grad-accum-steps 4 --output one
burst=("${tiny[@]}" --steps 50 --lr 100 --warmup-epochs 0 --opt-eps 1e-30 --weight-decay 10 --grad-accum-steps 2)
check "a loss that is not finite, on one" says 1 "step 5 is not finite" "${burst[@]}" --output burst1
check "on two ranks" says_on 2 1 "step 5 is not finite" "${burst[@]}" --output burst2
check "the same bytes before" cmp burst1/last.resume.safetensors burst2/last.resume.safetensors

verdict
