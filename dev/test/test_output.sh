#!/usr/bin/env bash
# The programs when their output cannot be written, and the notes before a run. Also needs CONVERT_DATA (default beside
# the trainer). Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
convert=$(realpath "${CONVERT_DATA:-$(dirname "$program")/convert_data}")
cd "$work" || exit 1
tiny=(--model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12)

unwritten() { # unwritten COMMAND...: into a full disk, and without an output, it fails with one sentence
    "$@" >/dev/full 2>full.err; local full=$?
    "$@" >&- 2>closed.err; local closed=$?
    [ "$full $closed" = "1 1" ] && [ "$(cat full.err closed.err | wc -l)" = 2 ] &&
        grep -q "cannot write the standard output: No space" full.err && grep -q "output: it is closed" closed.err && return
    echo "exit $full and $closed: $(cat full.err closed.err)"
    return 1
}
"$train" "${tiny[@]}" --steps 2 --output run >run.log
check "a run ends well" grep -q "^best top-1" run.log
for action in --help --list --dry-run "--eval run/last.safetensors" "--profile 1"; do
    check "$action without an output" unwritten "$train" "${tiny[@]}" $action
done
check "convert_data without an output" unwritten "$convert" --help
check "a run without an output" unwritten "$train" "${tiny[@]}" --steps 2 --output silent --overwrite
check "leaves its files as another does" cmp run/last.resume.safetensors silent/last.resume.safetensors
check "and nothing in metrics.csv but rows" bash -c "! grep -v -e '^step,' -e '^[0-9]*,[^a-z]*$' silent/metrics.csv"

"$train" "${tiny[@]}" --steps 2 --output headless 2>headless.err | :
check "a run whose reader goes fails in the end" test "${PIPESTATUS[0]}" = 1
check "and says so" grep -q "its reader is gone" headless.err
check "but loses nothing" cmp run/last.resume.safetensors headless/last.resume.safetensors

full_log() { # the log of a run, on a disk that has no room for all of its rows
    (trap '' XFSZ; ulimit -f 4; "$train" "${tiny[@]}" --steps 200 --log-every 1 --eval-every 0 --checkpoint-every 1000 \
        --output full) >/dev/null 2>full.err
    [ $? = 1 ] && grep -q "^error: cannot write full/metrics.csv: File too large" full.err
}
check "a log that cannot be written ends the run" full_log

foreign_log() {
    printf 'step,loss\n1,2\n' | tee run/metrics.csv >foreign.csv
    "$train" --resume run >foreign.log 2>&1
    [ $? = 1 ] && grep -q "run/metrics.csv, line 1, is not of this program's log" foreign.log && cmp run/metrics.csv foreign.csv
}
check "a log of others is not replaced" foreign_log

# ---- a reader has each line at once: the first of a run without end comes
first_step() { timeout 20 "$train" "${tiny[@]}" --overfit-batch --log-every 50 --steps 1000000 --lr 1e-9 | grep -m 1 -q "^step 50:"; }
check "the first line of --overfit-batch" first_step

# ---- notes
notes() { # notes PATTERN ARGUMENTS...: the one note is this; an empty pattern: there is none
    local pattern=$1
    shift
    "$train" "${tiny[@]}" "$@" --output notes --overwrite >notes.log || return 1
    if [ -z "$pattern" ]; then ! grep "^note" notes.log; else
        [ "$(grep -c "^note" notes.log)" = 1 ] && grep -q -- "^note       $pattern" notes.log
    fi
}
check "no note on a usual run" notes "" --steps 20 --model-ema-decay 0.8
check "a run that ends in its warm-up" notes "the run of 0.5 epochs ends within its warm-up of 1: the learning rate ends at 4.01e-04 and never reaches --lr 0.001. .* --warmup-epochs 0.05$" --steps 5
check "no longer, with that" notes "" --steps 5 --warmup-epochs 0.05
check "the schedule by epochs" notes "the run of 2 epochs ends within its warm-up of 2: the learning rate ends at 5.01e-04" --epochs 2 --warmup-epochs 2 --sched-on-updates off
check "a mean that is mostly the start" notes "--model-ema-decay 0.99 is for longer runs: after 20 steps 82 % of the mean, .* a decay of 0.79$" --steps 20 --model-ema-decay 0.99
check "no longer, with that" notes "" --steps 20 --model-ema-decay 0.79
check "a batch above the data" notes "--batch-size 41 is more than the 40 training images there are" --batch-size 41 --steps 2

# ---- memory for the images that there are
plan() { "$train" "${tiny[@]}" --dry-run "$@" | grep ^memory; }
same_plan() { [ "$(plan --batch-size "$1")" = "$(plan --batch-size "$2")" ]; }
check "a batch above both splits takes their memory" same_plan 40 65536
check "a batch within them takes its own" bash -c "! [ '$(plan --batch-size 20)' = '$(plan --batch-size 40)' ]"
check "the larger split counts" bash -c "[ '$(plan --batch-size 300 --test-images 300)' = '$(plan --batch-size 500 --test-images 300)' ]"
for batch in 40 60000; do "$train" "${tiny[@]}" --steps 3 --mixup 0.8 --log-every 1 --batch-size $batch --output batch-$batch >/dev/null; done
check "both train alike" diff <(losses batch-40) <(losses batch-60000)

verdict
