#!/usr/bin/env bash
# ./analyze attention, spectrum, landscape and transfer on small runs: their numbers, that stopped ones continue to the
# same end, and how they handle wrong regions, images and models. Needs TRAIN_KAT and ANALYZE (default ./train_kat,
# ./analyze). Prints "N passed, N failed" last.
. "$(dirname "$0")/analyze_test.sh"

run() { # run NAME FLAGS...
    local name=$1
    shift
    "$train" --model vit-mini --dim 24 --depth 2 --image-size 16 --batch-size 16 --train-images 96 --test-images 40 \
        --epochs 3 --lr 3e-3 --output "$name" "$@" >"$name.log" 2>&1 || { echo "FAILED: training of $name"; cat "$name.log"; }
}
run karat --attn karat --karat-rank 5 --keep-every 1
run softmax --attn softmax --drop-path 0.2 --mixup 0.8
run mixing --attn mixing
run narrow --attn softmax --heads 2

rows() { awk -F, "$2 { n++ } END { print n + 0 }" "$1"; } # rows FILE CONDITION: how many lines

# stop PROCESS SIGNAL COMMAND...: once the command succeeds, if it has not ended by then. What it has just started may hold
# its folder a moment longer.
stop() {
    local process=$1 signal=$2
    shift 2
    until "$@" 2>/dev/null || ! kill -0 "$process" 2>/dev/null; do sleep 0.01; done
    kill -"$signal" "$process" 2>/dev/null
    wait "$process" 2>/dev/null
    sleep 0.5
}

# ---- spectrum

check "spectrum" works "none exceeds" spectrum karat --blocks all --output out
check "sigma has rank 5 in every block, head and image" test "$(rows out/spectrum-ranks.csv '$4 == "sigma" && $6 == 5 && $7 == 5')" = 30
check "A has no more than a head's width" test "$(rows out/spectrum-ranks.csv '$4 == "A" && $6 <= 8 && $7 == 8')" = 30
check "a row for each of 17 values" test "$(rows out/spectrum.csv '$1 == 1')" = 17
check "values fall, and minimum, mean and maximum keep their order" test "$(rows out/spectrum.csv '
    NR > 1 && ($3 > $4 * 1.00001 || $4 > $5 * 1.00001 || $6 > $7 * 1.00001 || $7 > $8 * 1.00001)')" = 0

# ---- attention

check "attention" tells 0 "wrote out/attention-block1.png" attention karat --images 20 --box 0,0,8,16 --mass 60 --output out
check "rows of 20 images, 3 heads, A and sigma" test "$(rows out/attention.csv 'NR > 1 && $5 >= 0 && $5 <= log(17) + 1e-6 &&
    $6 >= 0 && $6 <= 1 && ($7 == "nan" || ($7 >= 0 && $7 <= 1))')" = 120
check "KArAt's weights are partly negative" test "$(rows out/attention.csv '$4 == "sigma" && $6 > 0')" = 60
check "attention of softmax" tells 0 "wrote" attention softmax --images 20 --heads 1 --output out-s
check "of which no weight is negative" test "$(rows out-s/attention.csv '$4 == "sigma" && $6 == 0')" = 20
check "attention of mixing, all blocks" tells 0 "wrote" attention mixing --images 20 --blocks all --output out-m
check "which is position alone" test "$(rows out-m/attention-position.csv '
    $3 == "sigma" && $7 > 0.9999 && $10 > 0.9999 && $5 > 0 && $6 < 1e-9')" = 6
sheet=out/attention-block1.png # rows of an image, and A, sigma and a mask of 3 heads: 10 cells of 8 times 16 pixels
check "the sheet is as wide as its cells" test "$(head -c 20 $sheet | tail -c 4 | od -An -tu1 | tr -s ' ')" = " 0 0 5 $((1346 % 256))"

check "images from files" tells 0 "over 2 images" attention karat --files $sheet,$sheet --mask $sheet --output files
check "named in the csv" grep -q "^1,0,$sheet,A," files/attention.csv
check "a file that is none" tells 1 "karat.log is neither a JPEG nor a PNG" attention karat --files karat.log --output files
check "a file that is missing" tells 1 "nowhere.png cannot be opened" attention karat --files nowhere.png --output files
check "a missing mask" tells 1 "--mask nowhere.png cannot be opened" attention karat --mask nowhere.png --output files
check "a box beyond the image" tells 1 "reaches beyond the image of 16 x 16" attention karat --box 0,0,17,4 --output files
check "a box that is none" tells 1 "give top,left,height,width" attention karat --box 1,2 --output files
check "two regions" tells 1 "leave out one" attention karat --box 0,0,1,1 --mask $sheet --output files
check "a head that is not there" tells 1 "from 0 to 2" attention karat --heads 3 --output files
cp out/attention.csv before.csv
(ulimit -f 1; trap '' XFSZ; "$analyze" attention karat --images 40 --output out >full.log 2>&1)
check "a disk that is full" test "$? $(grep -c "cannot write out/attention" full.log)" = "1 1"
check "leaves the numbers that were there" cmp before.csv out/attention.csv

# ---- landscape

check "landscape" works "largest eigenvalue" landscape karat --grid 5 --products 4 --output out
loss=$(awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) { if ($i == "test_loss") { k = i } } next } $k != "" { v = $k }
                END { print v }' karat/metrics.csv)
for plane in landscape landscape-random; do
    check "$plane: the loss at the origin is the evaluation's" near "$loss" \
        "$(awk -F, 'NR > 1 && $3 == 0 && $4 == 0 { print $5 }' out/$plane.csv)" 1e-6
    check "$plane has 25 points" test "$(rows out/$plane.csv 'NR > 1 && $5 > 0')" = 25
    check "$plane leaves no part of it" test ! -e out/$plane.part
done
check "the trajectory has 4 points and ends at the origin" test "$(rows out/landscape-trajectory.csv 'NR > 1')" = 4
check "in the plane" test "$(awk -F, 'END { print $3 + 0, $4 + 0, $5 + 0 }' out/landscape-trajectory.csv)" = "0 0 0"
check "three points of weights are in their plane" test "$(rows out/landscape-trajectory.csv 'NR > 1 && $5 < 0.5')" -ge 2
check "components explain variances that fall" test "$(awk -F, '$1 ~ /component 1/ { a = $2 } $1 ~ /component 2/ { b = $2 }
    END { print (a >= b && b >= 0 && a + b <= 1 + 1e-9) }' out/landscape-numbers.csv)" = 1
cp out/landscape.csv whole.csv
"$analyze" landscape karat --grid 5 --products 0 --output killed >/dev/null 2>&1 &
stop $! KILL eval '[ "$(wc -l <killed/landscape.part)" -gt 3 ]'
check "one that was killed goes on" works "local minima" landscape karat --grid 5 --products 0 --output killed
check "to the same end" cmp whole.csv killed/landscape.csv
check "a run that kept nothing has its random plane" works "two points span no plane" landscape softmax --grid 3 --products 0 \
    --output kept
check "and no other" test ! -e kept/landscape.csv
check "which is an error where another is asked for" tells 1 "--keep-every 1" landscape softmax --directions components \
    --output kept
echo somebody >kept/landscape-random.part
check "a file of somebody's in the way" tells 1 "is not of ./analyze" landscape softmax --grid 3 --products 0 --output kept
check "stays" grep -q somebody kept/landscape-random.part

# ---- transfer

check "transfer" works "student with the teacher's maps" transfer karat softmax --output moved
check "a row for teacher, student and control" test "$(rows moved/transfer.csv 'NR > 1 && $3 > 0 && $5 > 0')" = 3
"$analyze" transfer karat softmax --output stopped >/dev/null 2>&1 & # to be stopped after its first epoch of three
stop $! TERM test -e stopped/transfer/last.resume.safetensors
check "one that was stopped goes on" works "student with the teacher's maps" transfer karat softmax --output stopped
check "to the same weights" cmp moved/transfer/last.resume.safetensors stopped/transfer/last.resume.safetensors
check "one that is done is evaluated once more" works "student with the teacher's maps" transfer karat softmax --output stopped
check "with the same rows" eval "sed s/^moved/stopped/ moved/transfer.csv | sed s/,moved/,stopped/ | cmp - stopped/transfer.csv"
check "another is not mixed with it" tells 1 "holds another transfer" transfer karat softmax --maps mean --output stopped
check "the mean map, by the teacher's own recipe" works "student with the teacher's mean map" transfer karat --maps mean --output mean
check "other heads" tells 1 "give models with as many" transfer karat narrow --output heads

# ---- models whose attention is not of all tokens everywhere

run convit --model convit-mini --dim 24 --depth 3 --attn karat --karat-rank 5 --image-size 16 --epochs 1
run swin --model swin-mini --dim 8 --depth 1,2,1 --heads 4,4,4 --window-size 2 --image-size 16 --epochs 1
check "attention of a ConViT's last block" tells 0 "wrote" attention convit --images 5 --output out-c
check "its functions" works "functions" functions convit --output out-c
check "but its first blocks have gated positional attention" tells 1 "give --blocks from 2 on" spectrum convit --blocks all --output out-c
check "and cannot be replaced" tells 1 "take runs of a ViT" transfer convit --output out-c
for analysis in attention spectrum transfer; do
    check "$analysis of a Swin" tells 1 "attends in windows" $analysis swin --output out-w
done
check "weights of a Swin" works "relative_position_bias_table" weights swin --output out-w
check "its landscape" works "landscape" landscape swin --images 10 --grid 3 --products 0 --directions random --output out-w

verdict
