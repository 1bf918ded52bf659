#!/usr/bin/env bash
# From a folder of pictures to a trained model: shards, runs on them, with any number of threads, kept images, resumed, moved,
# damaged ones. Needs TRAIN_KAT and CONVERT_DATA, the programs. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
convert=$(realpath "${CONVERT_DATA:-./convert_data}")

if "$train" --show-batch "$work/trial.png" --batch-size 1 2>&1 | grep -q "libpng"; then
    echo "SKIPPED, not passed: encoded data sets from pictures (built without libpng)"
    verdict
    exit
fi

# ---- pictures: contact sheets of the procedural set, of different sizes
for i in 1 2 3 4; do
    for class in cat dog; do
        mkdir -p "$work/in/$class"
        number=$([ $class = cat ] && echo "$i" || echo $((i + 4)))
        "$train" --show-batch "$work/in/$class/$i.png" --batch-size "$number" --seed "$number" --image-size 16 >"$work/show.log" 2>&1
        cp "$work/in/$class/$i.png" "$work/in/$class/copy-of-$i.png"
    done
done
check "shards of a folder" "$convert" folder "$work/in" "$work/set" --split 0.25
check "they are tars" bash -c "tar tf '$work/set/train-000000.tar' | grep -qx 'cat/copy-of-1.png'"

run=(--model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --rrc --hflip 0.5 --aa rand-m9-mstd0.5 --reprob 0.25
     --mixup 0.8 --cutmix 1 --mix-order bytes --aug-repeats 2 --steps 12 --log-every 1 --seed 5)
same_files() { cmp "$1/best.safetensors" "$2/best.safetensors" && cmp "$1/last.safetensors" "$2/last.safetensors"; }

# ---- runs
check "a run on shards" says 0 "12 training and 4 test images, 2 classes; encoded, as they came" "${run[@]}" \
    --data "$work/set" --output "$work/first"
for flags in "--workers 1" "--workers 4" "--cache-gb 0.01" "--cache-gb 0.0001 --workers 3"; do
    # shellcheck disable=SC2086
    check "$flags" says 0 "best top-1" "${run[@]}" --data "$work/set" --output "$work/other" --overwrite $flags
    check "$flags: the same bytes" same_files "$work/first" "$work/other"
done
check "half of a run" says 0 "best top-1" "${run[@]}" --data "$work/set" --output "$work/half" --steps 6
mv "$work/set" "$work/moved"
check "the set is not there any more" says 1 "$work/set" --resume "$work/half" --steps 12
check "goes on where the set is now" says 0 "best top-1" --resume "$work/half" --steps 12 --data "$work/moved"
check "evaluation" says 0 "4 images" --eval "$work/first/best.safetensors" --data "$work/moved"
result=$(grep top-1 "$work/says.log")
mkdir "$work/val" && cp "$work"/moved/val* "$work/val"
check "of validation images that are alone" says 0 "$result" --eval "$work/first/best.safetensors" --data "$work/val"
check "they are all that is told of" grep -q "^data .*: 4 test images, 2 classes; encoded" "$work/says.log"
check "no training on them" says 1 "has val.index alone, which is enough for --eval: training needs train.index beside it" \
    "${run[@]}" --data "$work/val"
check "a part of the images" says 0 "6 training and 2 test images" "${run[@]}" --data "$work/moved" --train-images 6 \
    --test-images 2 --steps 1 --output "$work/part"
check "a padded crop is refused" says 2 "of one size" "${run[@]}" --data "$work/moved" --rrc off --crop-padding 2
check "another policy is refused" says 2 "rand-m9-mstd0.5-inc1" "${run[@]}" --aa augmix
check "an unknown part of one" says 2 '"x3"' "${run[@]}" --aa rand-m9-x3

# ---- what is not what it was
check "a folder without a set" says 1 "./convert_data folder" --data "$work/in"
truncated() {
    cp -r "$work/moved" "$work/cut" && truncate -s -1024 "$work/cut/train-000000.tar" &&
        says 1 "is not the file that the index was made of" "${run[@]}" --data "$work/cut" --output "$work/other" --overwrite
}
check "a truncated shard" truncated
damage() { # its first picture, which begins at 1536
    cp -r "$work/moved" "$work/bad" && printf damaged | dd of="$work/bad/train-000000.tar" bs=1 seek=1700 conv=notrunc 2>"$work/dd.log"
}
check "damage" damage
run+=(--aug-repeats 1)
picture="train-000000.tar: $(tar tf "$work/bad/train-000000.tar" | head -n 1) (record 0)"
check "a damaged picture is named" says 0 "$picture" "${run[@]}" --data "$work/bad" --output "$work/other" --overwrite
check "and counted" grep -q "1 of 12 training images could not be read" "$work/says.log"
check "--strict" says 1 "$picture" "${run[@]}" --data "$work/bad" --output "$work/other" \
    --overwrite --strict
verdict
