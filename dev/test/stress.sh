#!/usr/bin/env bash
# What a run survives, tested at length (make stress; takes minutes, so it is not one of the tests):
#   1. KILLS times (default 100) SIGKILL, half of them at any moment, the others while a file is saved, while the test split
#      is evaluated, and in the first 0.2 s; each time resumed with another number of threads. The files at the end are those
#      of a run that nobody touched, byte for byte; when a run ends before the kills are done, another begins.
#   2. PAIRS times (default 50) two processes on one folder at about the same moment: one has it, the other is told so,
#      and the files at the end are those of the run alone.
# Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
kills=${KILLS:-100} pairs=${PAIRS:-50}
RANDOM=${SEED:-1}
cd "$work" || exit 1

# A step of some milliseconds, a checkpoint every third, an evaluation every tenth
run=(--model kat-mini-g3b --dim 24 --depth 2 --image-size 16 --batch-size 8 --train-images 80 --test-images 100 --steps 200
     --log-every 1 --checkpoint-every 3 --keep-every 4 --drop-path 0.2 --mixup 0.8 --hflip 0.5 --crop-padding 2
     --model-ema-decay 0.9)

as_undisturbed() { same_run whole "$1" && ! compgen -G "$1/*.tmp"; } # as_undisturbed FOLDER

now() { echo $((${EPOCHREALTIME/./} / 1000)); } # milliseconds
saving() { compgen -G "killed/*.tmp" >/dev/null; }
evaluating() { # the row of an epoch's last step is there, and its evaluation's is not
    local line last=""
    while read -r line; do last=$line; done 2>/dev/null <killed/metrics.csv
    [[ $last =~ ^([0-9]*)0,[^,]*,[0-9] ]]
}
kill_at() { # kill_at MOMENT PID: true when the run was killed
    local moment=$1 pid=$2 from span
    from=$(now)
    case $moment in
    saving|evaluating)
        span=$((200 + RANDOM % 1200)) # not always the first
        while kill -0 "$pid" 2>/dev/null && { [ $(($(now) - from)) -lt $span ] || ! $moment; }; do :; done ;;
    early) sleep "0.$(printf %03d $((RANDOM % 200)))" ;;
    *) sleep "$((RANDOM % 2)).$(printf %03d $((RANDOM % 1000)))" ;;
    esac
    { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null
    [ $? = 137 ]
}

check "the run that nobody touches ends" "$train" "${run[@]}" --output whole
moments=(saving any early any evaluating any saving any early any evaluating any)
done_kills=0 runs=0
declare -A count=([saving]=0 [evaluating]=0 [early]=0 [any]=0)
for ((attempt = 0; done_kills < kills && attempt < 20 * kills; attempt++)); do
    moment=${moments[attempt % ${#moments[@]}]}
    "$train" "${run[@]}" --output killed --continue --threads $((1 + RANDOM % 3)) >killed.log 2>&1 &
    pid=$!
    if kill_at "$moment" $pid; then
        done_kills=$((done_kills + 1)) count[$moment]=$((count[$moment] + 1))
    else
        wait $pid
        check "run $((++runs)), killed again and again, ends" grep -q '^best top-1' killed.log
        check "run $runs has the files of the untouched one" as_undisturbed killed
        rm -rf killed
    fi
done
check "the run after the last kill ends" "$train" "${run[@]}" --output killed --continue
check "and has the files of the untouched one" as_undisturbed killed
check "$done_kills kills" test $done_kills -ge "$kills"
echo "killed ${count[saving]} times in a save, ${count[evaluating]} in an evaluation, ${count[early]} at the start, ${count[any]} at any moment; $((runs + 1)) runs"

second=(--continue --overwrite "" --continue)
refused=0
for ((pair = 0; pair < pairs; pair++)); do
    "$train" "${run[@]}" --output shared --continue --threads 1 >first.log 2>&1 & one=$!
    sleep "0.$(printf %03d $((RANDOM % 60)))"
    # shellcheck disable=SC2086
    "$train" "${run[@]}" --output shared ${second[pair % 4]} --threads 1 >second.log 2>&1 & two=$!
    wait $one; a=$?
    wait $two; b=$?
    [ $a != 0 ] && refused=$((refused + $(grep -c '^error: the folder shared is in use by process' first.log)))
    [ $b != 0 ] && refused=$((refused + $(grep -c '^error: the folder shared is in use by process' second.log)))
    check "pair $pair: one has the folder, the other does not ($a, $b)" test $(((a == 0) + (b == 0))) = 1
    check "pair $pair: nothing is lost" as_undisturbed shared
    rm -rf shared
done
echo "$refused of $pairs were told that the folder is in use"
verdict
