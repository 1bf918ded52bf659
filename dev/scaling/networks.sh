#!/usr/bin/env bash
# Two nodes on one machine: two network namespaces, and between them a link of limited rate.  networks.sh [check|measure|table]
#   check     the trainer's files equal those of one process; a cut link ends the run with a sentence
#   measure   steps of dev/scaling/simulate.c, the trainer's exchange with sleeps for kernels, against its model of a step
#   table     that model's predictions for 1 to 64 nodes: arithmetic, nothing is measured
# Needs root (or the right to make namespaces), iproute2 and Open MPI; TRAIN_KAT and SIMULATE are the programs. Run by
# `make networks`. If something is missing it prints SKIPPED. Prints "N passed, N failed" last.
. "$(dirname "$0")/../test/trainer_test.sh"
simulate=$(realpath "${SIMULATE:-build/simulate}")
parts=${*:-check measure table}
cd "$work" || exit 1
near=kat_near_$$ far=kat_far_$$

skip() {
    echo "SKIPPED, not passed: two nodes on one machine ($1)"
    verdict
    exit
}
mpirun --version 2>/dev/null | grep -q "Open MPI" || skip "no mpirun of Open MPI: install openmpi-bin"
command -v ip >/dev/null && command -v tc >/dev/null || skip "no ip and tc: install iproute2"
ip netns add "$near" 2>/dev/null && ip netns add "$far" 2>/dev/null || skip "no right to make network namespaces: be root"
trap 'ip netns del $near 2>/dev/null; ip netns del $far 2>/dev/null; rm -rf "$work"' EXIT
ip link add near netns "$near" type veth peer name far netns "$far" || skip "no veth"
ip -n "$near" addr add 10.77.0.1/24 dev near && ip -n "$far" addr add 10.77.0.2/24 dev far
for link in "$near near" "$far far"; do
    # shellcheck disable=SC2086
    set -- $link
    ip -n "$1" link set lo up && ip -n "$1" link set "$2" up
    tc -n "$1" qdisc add dev "$2" root tbf rate 1gbit burst 128kb latency 20ms || skip "no tbf"
done
rate() { # rate 200mbit: in both directions
    tc -n "$near" qdisc change dev near root tbf rate "$1" burst 128kb latency 20ms
    tc -n "$far" qdisc change dev far root tbf rate "$1" burst 128kb latency 20ms
}

# What mpirun starts on the other node instead of ssh
printf '#!/bin/sh\nshift\nexec ip netns exec %s unshare --uts sh -c "hostname far; $*"\n' "$far" >agent && chmod +x agent
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
on_nodes() { # on_nodes G PROGRAM...: G ranks on each node
    local g=$1
    shift
    ip netns exec "$near" unshare --uts sh -c 'hostname near; exec "$@"' sh mpirun --mca plm_rsh_agent "$work/agent" \
        --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 --bind-to none \
        --host "10.77.0.1:$g,10.77.0.2:$g" -n $((2 * g)) "$@"
}

# ---- the trainer
same_files() { cmp one/last.resume.safetensors two/last.resume.safetensors && cmp one/last.safetensors two/last.safetensors; }
within() { # within SECONDS COMMAND...: whether it succeeds by then
    SECONDS=0
    until "${@:2}"; do
        if [ $SECONDS -gt "$1" ]; then return 1; fi
        sleep 0.2
    done
}
is_told() { grep -aq "^error: rank 0 has waited [0-9]* s for rank 1 on far at step" cut.log; }
has_ended() { ! kill -0 "$mpirun" 2>/dev/null; }
cut_link() { # during a run that has saved once. mpirun itself waits until it reaches the other node again.
    on_nodes 1 "$train" "${run[@]}" --steps 100000 --rank-timeout 5 --output cut >cut.log 2>&1 &
    mpirun=$!
    within 60 test -e cut/last.resume.safetensors
    ip -n "$far" link set far down
    within 20 is_told && ip -n "$far" link set far up && within 60 has_ended && return
    kill -KILL "$mpirun" 2>/dev/null
    tail -n 3 cut.log
    return 1
}
if [[ $parts = *check* ]]; then
    run=(--model vit-mini --dim 192 --image-size 16 --batch-size 4 --train-images 40 --test-images 12 --threads 1
         --grad-accum-steps 4 --checkpoint-every 5 --model-ema-decay 0.9 --eval-every 0 --log-every 1)
    check "a run on one process" "$train" "${run[@]}" --steps 12 --output one
    check "on two nodes of two ranks" on_nodes 2 "$train" "${run[@]}" --steps 12 --output two
    check "the same bytes" same_files
    check "a link that is cut: rank 0 says so and ends" cut_link
    check "the folder goes on" "$train" --resume cut --steps "$(($(tail -n 1 cut/metrics.csv | cut -d, -f1) + 2))" --threads 1
fi

# ---- steps
measure() { # measure RATE RANKS FORWARD BACKWARD LEVELS: a row
    rate "$1"
    printf '%-8s %5d %5d  ' "$1" "$3" "$4"
    on_nodes "$2" "$simulate" run "$3" "$4" 20 5 "$5" --model vit-tiny 2>simulate.log || tail -n 1 simulate.log
}
if [[ $parts = *measure* ]]; then
    echo "vit-tiny: 22.9 MB of gradients and as many of parameters; a micro-batch on each rank. ms, MB/s, us; measured:"
    echo "link, forward, backward, nodes x ranks | of a node, of a rank within, shortest exchange | without messages, of these |"
    echo "    measured, model, ratio | % of the time of messages that is hidden"
    for link in 200mbit 400mbit; do
        for ranks in 1 2 4; do
            for block in "150 300" "600 1200"; do
                # shellcheck disable=SC2086
                measure $link $ranks $block two
            done
        done
    done | tee rows
    right=$(awk -F'|' '/two/ { split($4, t, " "); n += t[3] > 0.85 && t[3] < 1.15 } END { print n + 0 }' rows)
    echo "$right of $(grep -c two rows) within 15 % of the model"
    hidden=$(awk -F'|' '{ split($1, work, " ") } work[2] == 600 && $5 >= 75 { n++ } END { print n + 0 }' rows)
    echo "$hidden of $(grep -c " 600 " rows) hide 75 % of messages that fit beside the step; in one level:"
    measure 200mbit 4 150 300 one
    check "twelve rows were measured" test "$(grep -c "two |" rows)" = 12
fi

# ---- by arithmetic
row() { # row NAME FORWARD BACKWARD UPDATE RANKS AMONG WITHIN LATENCY MODEL
    printf '%-58s' "$1"
    "$simulate" table "${@:2:7}" --model "$9"
}
if [[ $parts = *table* ]]; then
    echo "By arithmetic alone: % of one rank's rate, a micro-batch of 128 images on each. GPUs: H100s at 0.25, 0.40 and 0.50 of"
    echo "800 TFLOP/s, NVLink of 250 GB/s; processors: 64 cores of 9 images/s. No such machine was there to measure."
    printf '%-58s %5d %5d %5d %5d %5d %5d %5d\n' "nodes" 1 2 4 8 16 32 64
    for links in "100 GbE:11.5" "8 x 400 Gb:360"; do
        row "vit-tiny, 8 GPUs a node, ${links%:*}" 1.6 3.2 0.05 8 "${links#*:}" 250 30 vit-tiny
        row "vit-small, 8 GPUs a node, ${links%:*}" 3.7 7.4 0.1 8 "${links#*:}" 250 30 vit-small
        row "vit-base, 8 GPUs a node, ${links%:*}" 11.3 22.5 0.2 8 "${links#*:}" 250 30 vit-base
    done
    row "vit-tiny, one processor a node, 10 GbE" 74 148 5 1 1.1 10 50 vit-tiny
    row "vit-tiny, one processor a node, 1 GbE" 74 148 5 1 0.11 10 100 vit-tiny
fi

verdict
