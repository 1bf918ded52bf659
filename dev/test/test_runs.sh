#!/usr/bin/env bash
# Runs and their folders: who owns a folder, what may be replaced in it, resuming in it, for longer, elsewhere, with
# data that moved or changed; signals and exit statuses. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
cd "$work" || exit 1
convert=$(realpath "${CONVERT_DATA:-$(dirname "$program")/convert_data}")

tiny=(--model vit-mini --dim 8 --heads 1 --depth 1 --mlp-ratio 2 --image-size 16 --batch-size 4 --train-images 40 --test-images 12
      --log-every 1 --threads 1)
same() { cmp "$1" "$2"; }
lines() { [ "$(grep -c "$2" "$1")" = "$3" ]; } # lines FILE PATTERN COUNT
start() { # start FOLDER ROWS FLAGS...: a run in the background, $pid, once its metrics.csv has so many rows
    local folder=$1 rows=$2
    shift 2
    "$train" "$@" --output "$folder" >"$folder.log" 2>&1 &
    pid=$!
    until [ "$(cat "$folder/metrics.csv" 2>/dev/null | wc -l)" -gt "$rows" ]; do kill -0 $pid 2>/dev/null || break; sleep 0.02; done
}
stop() { kill "-$1" $pid; wait $pid 2>/dev/null; } # stop SIGNAL: ends with the run's exit status
interrupt() { start "$@" && stop TERM; }

# ---- whose a folder is
"$train" "${tiny[@]}" --steps 6 --output done >done.log 2>&1
start busy 2 "${tiny[@]}" --steps 1000000
check "a folder in use is refused to a new run, which is told whose it is" says 1 "is in use by process" "${tiny[@]}" --output busy --overwrite
check "and to a second resume" says 1 "is in use by process" --resume busy
check "and however it is spelled" says 1 "is in use by process" --resume "$work/./busy/"
stop KILL
check "a lock goes with its process" says 0 "best top-1" "${tiny[@]}" --steps 6 --output busy --overwrite
for i in 1 2 3; do "$train" "${tiny[@]}" --steps 2 >same.$i.log 2>&1 & done
wait
check "runs that start together get a folder each" test "$(ls -d runs/*/last.resume.safetensors runs/*/ 2>/dev/null | wc -l)" = 6
check "without --output an empty folder is not taken for one's own" bash -c "mkdir -p runs/procedural-vit-mini-s9 && '$train' ${tiny[*]} --seed 9 --steps 1 && test -d runs/procedural-vit-mini-s9-2"

# ---- what may be replaced
for name in best.safetensors last.resume.safetensors last.ema.safetensors epoch-3.safetensors config.txt metrics.csv; do
    mkdir "old-$name" && echo precious >"old-$name/$name"
    check "a folder with nothing but $name is refused" says 2 "already holds" "${tiny[@]}" --steps 2 --output "old-$name"
    check "$name is left alone" grep -qx precious "old-$name/$name"
done
mkdir mixed && echo mine >mixed/notes.txt && echo old >mixed/epoch-7.safetensors && echo old >mixed/last.ema.safetensors && echo half >mixed/best.safetensors.tmp
check "--overwrite starts anew" says 0 "best top-1" "${tiny[@]}" --steps 2 --output mixed --overwrite
check "--overwrite leaves nothing of the old run" bash -c "! ls mixed/epoch-7.safetensors mixed/last.ema.safetensors mixed/best.safetensors.tmp 2>/dev/null"
check "--overwrite leaves what is not a run's" grep -qx mine mixed/notes.txt
mkdir tuned && cp done/best.safetensors tuned/
check "fine-tuning beside the weights is refused" says 2 "already holds" "${tiny[@]}" --init-from tuned/best.safetensors --output tuned
start tuned 2 "${tiny[@]}" --steps 1000000 --checkpoint-every 1000000 --eval-every 0 --init-from tuned/best.safetensors --overwrite
stop KILL
check "with --overwrite they survive until the new ones stand" same tuned/best.safetensors done/best.safetensors
check "and go then" says 0 "best top-1" "${tiny[@]}" --steps 2 --init-from tuned/best.safetensors --output tuned --overwrite
check "(another best.safetensors)" bash -c "! cmp -s tuned/best.safetensors done/best.safetensors"
mkdir linked && cp done/last.safetensors elsewhere && ln -s ../elsewhere linked/last.safetensors
check "a link is not removed" says 1 "no plain file" "${tiny[@]}" --steps 2 --output linked --overwrite
check "what it points to is left alone" same elsewhere done/last.safetensors
cp -r done moved && mv moved/last.safetensors stored && ln -s ../stored moved/last.safetensors
check "a run whose file was moved and linked goes on" says 0 "best top-1" --resume moved --steps 8
check "through the link" test -L moved/last.safetensors
check "to the file behind it" same stored moved/last.safetensors
check "--dump-state to a device goes through it" says 0 "wrote" "${tiny[@]}" --dump-state /dev/null
check "the device is one still" test -c /dev/null
mkfifo pipe && { cat pipe >piped & } && check "--dump-state to a pipe goes through it" says 0 "wrote" "${tiny[@]}" --dump-state pipe
wait
check "a pipe stays one, and what came out is whole" bash -c "test -p pipe && '$train' ${tiny[*]} --dump-state filed >/dev/null && cmp piped filed"

# ---- going on
"$train" "${tiny[@]}" --steps 400 --lr 0.0008826035482343288 --min-lr 0.00033333333333333331 --output whole >whole.log 2>&1
interrupt part 20 "${tiny[@]}" --steps 400 --lr 0.0008826035482343288 --min-lr 0.00033333333333333331
check "the folder may be named by its file" says 0 "best top-1" --resume part/last.resume.safetensors
check "all digits of a number are kept: the same bytes" same whole/last.resume.safetensors part/last.resume.safetensors
check "another file of it may not" says 2 "give the folder" --resume part/best.safetensors
check "--init-from does not go with --resume" says 2 "leave out one" --resume part --init-from done/last.safetensors
check "a finished run says so" says 0 "finished   all 400 steps" --resume part
cp -r done longer
check "a finished run is made longer" says 0 "length     6 steps become 12: at step 6 the learning rate goes on at" --resume longer --steps 12
check "config.txt says so" grep -qx "# made longer at step 6: 6 -> 12 steps" longer/config.txt
check "so do checkpoints" grep -qa '"extended":"step 6: 6 -> 12 steps"' longer/last.safetensors
check "by epochs as well" says 0 "length     12 steps become 20" --resume longer --epochs 2
check "both are told" grep -qx "# made longer at step 6: 6 -> 12 steps; step 12: 12 -> 20 steps" longer/config.txt
check "metrics.csv has every step once" lines longer/metrics.csv '^[0-9]*,[^,]*,[0-9]' 20
check "not to less than was done" says 2 "is at step 20 already" --resume longer --steps 8
"$train" "${tiny[@]}" --steps 6 --output again >/dev/null 2>&1 && "$train" --resume again --steps 12 >/dev/null 2>&1
"$train" --resume done --steps 12 --output beside >beside.log 2>&1
check "making it longer elsewhere gives the same bytes" same again/last.resume.safetensors beside/last.resume.safetensors
check "what the last line names is there" test -s beside/best.safetensors -a -s beside/metrics.csv
check "with the rows of before" lines beside/metrics.csv '^[0-9]*,[^,]*,[0-9]' 12
check "the run that it came from is as it was" test "$(tail -n 1 done/metrics.csv | cut -d, -f1)" = 6
check "--resume A --output A/ is the same folder" says 0 "best.safetensors" --resume again --output again/ --overwrite
check "--resume without a run" says 1 "there is no last.resume.safetensors" --resume none

# ---- --continue
queue=("${tiny[@]}" --steps 400 --continue)
interrupt queued 20 "${queue[@]}"
check "--continue starts a run" test -s queued/last.resume.safetensors
check "and goes on with it" says 0 "best top-1" "${queue[@]}" --output queued
check "to the same bytes" bash -c "'$train' ${tiny[*]} --steps 400 --output straight >/dev/null && cmp straight/last.resume.safetensors queued/last.resume.safetensors"
check "finished, it has nothing to do" says 0 "finished" "${queue[@]}" --output queued
check "it refuses another configuration" says 2 "--lr was 0.001, is now 0.5" "${queue[@]}" --output queued --lr 0.5
check "it needs --output" says 2 "give it by --output" "${queue[@]}"
start early 3 "${queue[@]}" --steps 1000000 --checkpoint-every 1000000 && stop KILL
check "of another configuration it is not" says 2 "already holds" "${queue[@]}" --steps 1000000 --seed 8 --output early
check "a start that came to no checkpoint is begun again" bash -c "! test -e early/last.resume.safetensors && timeout 3 '$train' ${tiny[*]} --steps 1000000 --continue --output early | grep -q '^step      1/'"
check "--continue and --overwrite exclude each other" says 2 "choose one" "${queue[@]}" --output queued --overwrite

# ---- --config
check "a run is repeated by its config.txt" says 0 "config     done/config.txt" --config done/config.txt --output repeated
check "to the same bytes" same done/last.resume.safetensors repeated/last.resume.safetensors
check "by its folder, with the data's place" says 0 "config     done/config.txt" -c done --data procedural --output folder
check "flags beside it win, and what differs is told" says 0 "done/config.txt, but --lr was 0.001, is now 0.5; --seed was 42, is now 3" \
    --config done --seed 3 --lr 0.5 --output other
check "in its own config.txt as well" grep -qx "lr 0.5" other/config.txt
check "that says whose it was" grep -qx "config done" other/config.txt
check "a model beside it brings its sizes" says 0 "model      kat-mini: C 96, 4 blocks" --config done --model kat-mini --dry-run
check "where it went and how long it is told are not taken" says 2 "already holds a run" --config done --output done
check "a run that goes on keeps its own" says 2 "--lr was 0.5, is now 0.001" --config done --resume other
check "the same may be said" says 0 "finished" --config done/config.txt --resume done
check "in a queue too" says 0 "finished" --config done --continue --output repeated
sed 's/^epochs /epohcs /' done/config.txt >wrong.txt
check "a line that names no option" says 1 "wrong.txt has a line 'epohcs'" --config wrong.txt
sed 's/^lr .*/lr much/' done/config.txt >wrong.txt
check "a value that is none" says 1 "wrong.txt: --lr much is not a number" --config wrong.txt
check "no such file" says 1 "give the config.txt of a run" --config nowhere

# ---- TensorBoard's files, and rows as JSON
events() { ls "$1"/events.out.tfevents.* 2>/dev/null; }
told=("${tiny[@]}" --model kat-mini-g3b --rational-groups 4 --epochs 2 --tensorboard --metrics-jsonl)
check "a run with both" says 0 "best top-1" "${told[@]}" --output told
"$train" "${told[@]}" --tensorboard off --metrics-jsonl off --output untold >untold.log 2>&1
check "gives the same bytes as without" same told/last.resume.safetensors untold/last.resume.safetensors
check "which leaves neither" test ! -e untold/metrics.jsonl -a -z "$(events untold)"
check "one event file" test "$(events told | wc -l)" = 1
for tag in train_loss eval_top1 lr images_per_second blocks.0.attn.karat.coef blocks.0.mlp.act1.weight_denominator; do
    check "with $tag" grep -qa "$tag" "$(events told)"
done
if "$train" "${tiny[@]}" --show-batch sheet.png >sheet.log 2>&1; then
    check "and a picture of the first batch" bash -c "grep -qa first_batch '$(events told)' && grep -qa IEND '$(events told)'"
fi
check "a line of JSON a row" test "$(wc -l <told/metrics.jsonl)" = "$(($(wc -l <told/metrics.csv) - 1))"
check "with the same numbers" diff <(sed -n 's/.*"test_top1":\([^,]*\),.*/\1/p' told/metrics.jsonl) \
    <(awk -F, 'NR > 1 && $14 != "" { print $14 }' told/metrics.csv)
check "they go on with the run" says 0 "best top-1" --resume told --epochs 3 --tensorboard --metrics-jsonl
check "in another event file" test "$(events told | wc -l)" = 2
check "and behind the rows that are there" test "$(wc -l <told/metrics.jsonl)" = "$(($(wc -l <told/metrics.csv) - 1))"
check "they go with the run" says 0 "best top-1" "${tiny[@]}" --steps 2 --output told --overwrite
check "all of them" test ! -e told/metrics.jsonl -a -z "$(events told)"

# ---- data that moved or changed
if [ -d /usr/share/datasets/fashion-mnist ]; then
    mkdir sets && "$convert" fashion-mnist /usr/share/datasets/fashion-mnist sets >sets.log 2>&1
    fashion=("${tiny[@]}" --data sets/fashion-mnist --image-size 28 --steps 400)
    interrupt worn 20 "${fashion[@]}"
    mv sets shelf
    check "data that are gone" says 1 "sets/fashion-mnist.train.kds" --resume worn
    check "data that moved" says 0 "best top-1" --resume worn --data shelf/fashion-mnist
    check "config.txt has the new place" grep -qx "data shelf/fashion-mnist" worn/config.txt
    check "no checkpoint has any" bash -c "! grep -qa shelf worn/last.safetensors worn/last.resume.safetensors"
    check "other data" says 1 "not those that the run began with" --resume worn --data procedural
    check "an evaluation takes the data of the folder" says 0 "data       shelf/fashion-mnist" --eval worn/best.safetensors
    check "and says where classes are named otherwise" says 0 "are named otherwise" --eval worn/best.safetensors --data procedural
    cp worn/best.safetensors alone.safetensors
    "$train" --eval worn/best.safetensors >there.log 2>&1
    "$train" --eval alone.safetensors --data shelf/fashion-mnist >alone.log 2>&1
    check "an evaluation normalises as the model was trained" test "$(tail -n 1 there.log | sed 's/^[^:]*//')" = "$(tail -n 1 alone.log | sed 's/^[^:]*//')"
fi

# ---- metadata
check "a checkpoint of ours says so" grep -qa '"kat.c":"1"' done/last.safetensors
check "it holds no path and nothing to do" bash -c "! grep -aoE '\"(data|output|resume|init_from|eval|dump_state|overwrite|threads|device)\":' done/last.resume.safetensors"

cp -r done unmarked && LC_ALL=C sed -i 's/"kat\.c"/"kat_c"/' unmarked/last.resume.safetensors
check "without its mark a run is not resumed" says 1 "has no mark of this program" --resume unmarked

# ---- signals and exit statuses
for signal in TERM HUP; do
    start "by-$signal" 2 "${tiny[@]}" --steps 1000000
    stop $signal
    check "SIG$signal: exit status 3" test $? = 3
    check "SIG$signal saves" test -s "by-$signal/last.resume.safetensors"
done
start requeued 2 "${tiny[@]}" --steps 1000000
stop USR1
check "SIGUSR1: exit status 75, come again" test $? = 75
check "SIGUSR1: --continue comes again" says 0 "best top-1" "${tiny[@]}" --continue --output requeued --steps $(($(tail -n 1 requeued/metrics.csv | cut -d, -f1) + 2))
start twice 2 "${tiny[@]}" --steps 1000000
kill -TERM $pid
stop TERM
check "two within a second: exit status 3" test $? = 3
check "two within a second save" test -s twice/last.resume.safetensors
(trap '' HUP TERM; exec "$train" "${tiny[@]}" --steps 60 --output deaf >deaf.log 2>&1) & pid=$!
until [ -s deaf/metrics.csv ]; do sleep 0.02; done
kill -HUP $pid; kill -TERM $pid; wait $pid
check "signals that were ignored at the start stay ignored" test $? = 0
check "a limit on the size of files is met by a sentence" bash -c "ulimit -f 1; '$train' ${tiny[*]} --dim 64 --steps 2 --output limited >limited.log 2>&1; test \$? = 1 && grep -q '^error: cannot write' limited.log"

verdict
