#!/usr/bin/env bash
# One run on several GPUs by NCCL (or, under the emulation, on what stands for them): the same bytes in its files on any number
# of them, whatever the order of work on their streams; gone on with on another number; one sentence where something is refused.
# Needs TRAIN_KATCU, the program. A real one takes as many GPUs as there are; where that is one, NCCL 2.30 lets the ranks share it.
# Prints "N passed, N failed" last.
set -u
. "$(dirname "$0")/../test/same_run.sh"
gpu=$(realpath "${TRAIN_KATCU:-./train_katcu}")
work=$(mktemp -d)
trap 'kill -KILL $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

check() { # check SENTENCE COMMAND...: the command must succeed
    local sentence=$1
    shift
    if "$@" >check.log 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
        tail -n 5 check.log rank.*
    fi
}

emulated() { [[ $gpu == *_emu ]]; }
if emulated; then
    export EMU_NCCL_SECONDS=60
else
    export NCCL_MULTI_RANK_GPU_ENABLE=1
fi

# together R ARGUMENTS...: on so many ranks, as torchrun starts them: the first that fails ends all, a little later. LAST: words
# that the last of them gets besides, of its environment
together() {
    local R=$1 rank status=0 ended pids=() killer=
    shift
    rm -f rank.* pid.*
    for ((rank = 0; rank < R; rank++)); do
        # shellcheck disable=SC2046,SC2086
        env RANK=$rank WORLD_SIZE="$R" LOCAL_RANK=$rank LOCAL_WORLD_SIZE="$R" RANKS_NODE=node$((rank % ${NODES:-1})) \
            $([ $((rank + 1)) = "$R" ] && echo ${LAST:-}) "$gpu" "$@" >rank.$rank 2>&1 &
        pids+=($!)
        echo $! >pid.$rank
    done
    for ((rank = 0; rank < R; rank++)); do
        wait -n "${pids[@]}" 2>/dev/null
        ended=$?
        if [ $ended != 0 ] && [ $status = 0 ]; then
            status=$ended
            { sleep 3 && kill -KILL "${pids[@]}"; } 2>/dev/null &
            killer=$!
        fi
    done
    if [ -n "$killer" ]; then
        kill -KILL $killer 2>/dev/null
        wait $killer 2>/dev/null
    fi
    return $status
}
with() { # with "VARIABLE=VALUE..." COMMAND...
    local variable
    # shellcheck disable=SC2163
    (for variable in $1; do export "$variable"; done; "${@:2}")
}

# Everything random is on; a step is A micro-batches of 4 images
run=(--model kat-mini-g3b --dim 24 --depth 2 --image-size 16 --batch-size 4 --train-images 90 --test-images 22 --seed 7
     --steps 8 --log-every 3 --drop-path 0.2 --mixup 0.8 --cutmix 1 --hflip 0.5 --crop-padding 2 --model-ema-decay 0.95
     --clip-grad 1 --checkpoint-every 4 --keep-every 1 --threads 1)
same() { # same FOLDER R "VARIABLE=VALUE..." FLAGS...: on R ranks the run of that folder comes out
    rm -rf on
    with "$3" together "$2" "${run[@]}" "${@:4}" --output on && same_run "$1" on
}

"$gpu" "${run[@]}" --grad-accum-steps 4 --output four >four.log 2>&1
"$gpu" "${run[@]}" --grad-accum-steps 7 --output seven >seven.log 2>&1
check "4 micro-batches on 2" same four 2 "" --grad-accum-steps 4
check "they say who they are" grep -q "^ranks      2 on 1 node, by NCCL .*; 1 thread each" rank.0
check "one of them prints" test ! -s rank.1
check "4 micro-batches on 3" same four 3 "" --grad-accum-steps 4
check "on 4, which is what --grad-accum-steps is then, on 2 nodes" same four 4 "NODES=2"
check "they are counted" grep -q "^ranks      4 on 2 nodes" rank.0
check "7 micro-batches on 4" same seven 4 "" --grad-accum-steps 7
check "on 2" same seven 2 "" --grad-accum-steps 7
check "without graphs" same seven 2 "" --grad-accum-steps 7 --cuda-graph off
if emulated; then
    check "streams run as late as they may" same seven 3 "EMU_LATE=1" --grad-accum-steps 7
    for order in random:1 priority:1 priority:2; do
        check "in another order ($order)" same seven 3 "EMU_LATE=1 EMU_ORDER=$order EMU_DEVICES=3" --grad-accum-steps 7
    done
fi
# Of a bucket for each block: they go to their owners while the backward goes on
wide=(--model vit-mini --dim 192 --heads 3 --depth 8 --image-size 16 --batch-size 2 --train-images 20 --test-images 4 --steps 3
      --log-every 1 --threads 1 --model-ema-decay 0.9 --clip-grad 1)
same_wide() { # same_wide R "VARIABLE=VALUE..." FLAGS...
    rm -rf on
    with "$2" together "$1" "${wide[@]}" --output on "${@:3}" && cmp wide/last.resume.safetensors on/last.resume.safetensors
}
"$gpu" "${wide[@]}" --grad-accum-steps 5 --output wide >wide.log 2>&1
check "several buckets, 5 micro-batches on 2" same_wide 2 "" --grad-accum-steps 5
check "on 4, on 2 nodes" same_wide 4 "NODES=2" --grad-accum-steps 5
if emulated; then
    check "late, and in another order" same_wide 3 "EMU_LATE=1 EMU_ORDER=random:1" --grad-accum-steps 5
fi
half=(--precision bf16 --stream-grad bf16 --dim 32 --heads 2)
"$gpu" "${run[@]}" "${half[@]}" --grad-accum-steps 3 --output half >half.log 2>&1
check "in bf16" same half 3 "" "${half[@]}"

evaluated() { # evaluated R FLAGS...: the same lines as on one
    local R=$1 flags=("${@:2}" --eval four/best.safetensors --per-class --threads 1)
    together 1 "${flags[@]}" && grep -E "top-1|±" rank.0 >one.lines && test -s one.lines &&
        together "$R" "${flags[@]}" && grep -E "top-1|±" rank.0 | diff one.lines -
}
check "an evaluation on 3" evaluated 3
check "on more ranks than batches" evaluated 4 --batch-size 8

# ---- gone on with on another number
long=("${run[@]}" --grad-accum-steps 4 --steps 8)
begin_and_end() { # begun on 3, ended on 2
    together 3 "${long[@]}" --steps 4 --output begun &&
        sed -i 's/"steps":"4"/"steps":"8"/' begun/last.resume.safetensors && together 2 --resume begun --threads 1 --keep-every 1
}
check "begun on 3, ended on 2" begin_and_end
check "the weights" cmp <(tail -c 400000 four/last.resume.safetensors) <(tail -c 400000 begun/last.resume.safetensors)
stopped() {
    together 2 "${long[@]}" --steps 100000 --output stopped &
    local started=$! status
    until [ "$(grep -c . stopped/metrics.csv 2>/dev/null)" -gt 3 ] || ! kill -0 $started 2>/dev/null; do sleep 0.05; done
    kill -TERM "$(cat pid.1)"
    wait $started
    status=$?
    echo "exit $status"
    grep -q "^stopped at step .*: go on with --resume stopped" rank.0 && [ $status = 3 ]
}
check "a signal to one stops all" stopped

# ---- what cannot be
tiny=(--model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12 --threads 1 --steps 2)
says_on() { # says_on R "VARIABLE=VALUE..." CODE TEXT ARGUMENTS...: one sentence, from one of the ranks
    local R=$1 variables=$2 code=$3 text=$4 got
    with "$variables" together "$R" "${@:5}"
    got=$?
    [ $got = "$code" ] && [ "$(cat rank.* | grep -cF -- "$text")" = 1 ] && [ "$(cat rank.* | grep -c "error: ")" = 1 ] && return
    echo "exit $got (want $code)"
    return 1
}
check "a wrong flag" says_on 2 "" 2 "did you mean --epochs" --epocs 3
check "more ranks than micro-batches" says_on 3 "" 2 "3 ranks, but --grad-accum-steps 2 gives work to 2 of them" \
    "${tiny[@]}" --grad-accum-steps 2
for flag in --gradcheck "--tune-products on"; do
    # shellcheck disable=SC2086
    check "${flag% *} is for one process" says_on 2 "" 2 "${flag% *} is for one process, and 2 were started: leave torchrun out" \
        "${tiny[@]}" $flag
done
check "MASTER_ADDR alone" says_on 2 "MASTER_ADDR=127.0.0.1 MASTER_PORT=" 2 "MASTER_ADDR=127.0.0.1 without a MASTER_PORT" "${tiny[@]}"
port=$((20000 + $$ % 12000))
other_launch() { # the last of them is of another launch, and meets the first at one place
    SECONDS=0
    with "MASTER_ADDR=127.0.0.1 MASTER_PORT=$port PMIX_NAMESPACE=a LAST=PMIX_NAMESPACE=b" \
        says_on 2 "" 2 "another run uses 127.0.0.1:$port: set MASTER_ADDR and another MASTER_PORT" "${tiny[@]}" || return
    echo "after $SECONDS s" && [ $SECONDS -le 30 ]
}
check "two launches that meet" other_launch
burst=("${tiny[@]}" --steps 50 --lr 100 --warmup-epochs 0 --opt-eps 1e-30 --weight-decay 10 --grad-accum-steps 2)
check "a loss that is not finite, on one" says_on 1 "" 1 "is not finite" "${burst[@]}" --output burst1
check "on two" says_on 2 "" 1 "is not finite" "${burst[@]}" --output burst2
check "the same weights before" cmp burst1/last.safetensors burst2/last.safetensors
tells_once() {
    together 3 --help && grep -q "^Usage: ./train_katcu" rank.0 && [ ! -s rank.1 ] && [ ! -s rank.2 ]
}
check "--help is rank 0's" tells_once
if emulated; then
    check "more ranks than GPUs" says_on 3 "EMU_DEVICES=2" 2 "node0: 3 ranks, but 2 GPUs: start at most 2 there" "${tiny[@]}"
    check "no GPU" says_on 2 "EMU_DEVICES=0" 1 "there is no GPU to train on" "${tiny[@]}"
    killed() {
        (sleep 1; kill -KILL "$(cat pid.1)") &
        ! together 2 "${long[@]}" --steps 100000 --output killed && grep -q "NCCL: rank 0: a peer has died" rank.0
    }
    check "a rank that is killed" killed
fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
