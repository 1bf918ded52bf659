# shellcheck shell=bash disable=SC2154,SC2034
# Parts of scripts/gpu_check.sh: is what the GPU computes right? Each writes its rows as it goes.

gpu_trainer() { "$programs/train_katcu" "$@"; }
few=(--train-images 8 --test-images 4)

# ---- smoke

# Some steps: FOLDER FLAGS...; under the emulation EMU_ORDER is an order of its threads
short_run() {
    local folder=$work/$1
    shift
    rm -rf "$folder"
    gpu_trainer "${smoke[@]}" --train-images 512 --test-images 8 --steps 20 --log-every 5 --eval-every 0 "$@" \
        --output "$folder"
}

images_per_second() { awk -F, '$9 != "" { last = $9 } END { print last }' "$1/metrics.csv"; }

smoke() {
    local model models=(vit-tiny kat-tiny-g3b) same failed=0
    if [ $emulated = yes ]; then models=(kat-mini-g3b); fi
    for model in "${models[@]}"; do
        if ! short_run "$model" --model "$model" >"$work/run.log" 2>&1; then
            tail -n 5 "$work/run.log"
            row smoke name "$model" runs no
            failed=1
            continue
        fi
        EMU_ORDER=reverse short_run again --model "$model" --cuda-graph off >"$work/run.log" 2>&1 &&
            cmp "$work/$model/last.safetensors" "$work/again/last.safetensors" && same=yes || same=no
        row smoke name "$model" runs yes images_s "$(images_per_second "$work/$model")" \
            images_s_without_graphs "$(images_per_second "$work/again")" same_bits $same
        echo "$model: $(images_per_second "$work/$model") images/s, without graphs $(images_per_second "$work/again");" \
            "the same bits: $same"
        if [ $same = no ]; then
            tail -n 5 "$work/run.log"
            failed=1
        fi
    done
    return $failed
}

# ---- kernels

kernels() {
    local paths=() name line
    for name in $tests; do paths+=("$programs/$name"); done
    ORDERS=$orders RUNNER=dev/test_cuda/run_orders.sh JOBS=6 scripts/run_tests.sh "${paths[@]}" |
        while read -r line; do
            echo "$line"
            if [[ $line =~ ^(test_[a-z_]*):\ (.*)$ ]]; then
                row kernels name "${BASH_REMATCH[1]}" verdict "${BASH_REMATCH[2]}"
            fi
        done
    return "${PIPESTATUS[0]}"
}

# ---- shapes

# The error of a tensor, of its largest value. Under the emulation kat-tiny-g3b with 12 blocks, 17 tokens and a width of
# 64 has 7e-6, 0.009 and 0.05, in gradients of rationals, which are sums that cancel.
tolerance_of() {
    case $1 in
    fp32) echo 1e-4 ;;
    tf32) echo 0.03 ;;
    bf16) echo 0.15 ;;
    esac
}

compare_shape() { # MODEL CLASSES PRECISION: dumps that were written
    local of="$1-$2" tolerance words status
    tolerance=$(tolerance_of "$3")
    words=$("$programs/compare_dumps" "$work/$of-cpu.safetensors" "$work/$of-$3.safetensors" "$tolerance" 2>&1)
    status=$?
    if [ $status != 0 ]; then head -n 20 <<<"$words"; fi
    words=$(tail -n 1 <<<"$words")
    echo "$1, $2 classes, $3: $words (at most $tolerance)"
    row shapes name "$1" classes "$2" precision "$3" worst "$(sed -n 's/.*worst error \([^,]*\),.*/\1/p' <<<"$words")" \
        tensor "$(sed -n 's/.*, of \(.*\);.*/\1/p' <<<"$words")" tolerance "$tolerance" ok $((status == 0))
    return $status
}

shapes() {
    local count model precision flags failed=0
    for count in "${classes[@]}"; do
        for model in "${shape_models[@]}"; do
            flags=(--model "$model" "${shapes[@]}" "${few[@]}" --classes "$count")
            "$programs/train_kat" --device cpu "${flags[@]}" --precision fp32 \
                --dump-state "$work/$model-$count-cpu.safetensors" >"$work/cpu.log" 2>&1 &
            for precision in fp32 tf32 bf16; do
                gpu_trainer "${flags[@]}" --precision $precision \
                    --dump-state "$work/$model-$count-$precision.safetensors" >"$work/$precision.log" 2>&1 &
            done
            wait
            for precision in fp32 tf32 bf16; do
                if ! compare_shape "$model" "$count" $precision; then
                    failed=1
                    grep -h '^error' "$work/cpu.log" "$work/$precision.log"
                fi
            done
            rm -f "$work/$model-$count"-*.safetensors
        done
    done
    return $failed
}

# ---- memcheck, synccheck, racecheck

# passes_trivial TOOL OPTION...: whether it takes them here, for a program that does nothing wrong
passes_trivial() {
    timeout 60 compute-sanitizer --tool "$1" "${@:2}" --error-exitcode 99 "$programs/probe" >"$work/trivial.log" 2>&1
}

# sanitize TOOL: several programs at a time, those with the most to tell first; what is not done in time is no failure
sanitize() {
    local tool=$1 name names="trainer test_attention test_karat test_layernorm test_rational test_augment test_loss" list
    command -v compute-sanitizer >/dev/null || { skip "no compute-sanitizer"; return; }
    if ! passes_trivial "$tool"; then
        skip "compute-sanitizer does not run here: $(grep -v '^=* *$' "$work/trivial.log" | tail -n 1)"
        return
    fi
    # options: calls may fail, as some do on purpose; kernels of ours alone, for libraries' are slow under it
    export ends quiet="" ours=""
    if [ "$tool" = memcheck ] && passes_trivial memcheck --report-api-errors no; then quiet="--report-api-errors no"; fi
    if passes_trivial "$tool" --kernel-regex kns=_kernel; then ours="--kernel-regex kns=_kernel"; fi
    for name in $tests; do
        if [[ " $names " != *" $name "* ]]; then names+=" $name"; fi
    done
    list=$work/$tool.list
    tr ' ' '\n' <<<"$names" | xargs -P 6 -n 1 "$script" --inside "$work" sanitize_one "$tool" | tee "$list"
    if grep -q ' failed$' "$list"; then
        cat "$work/$tool"-*.log | tail -n 40
        echo "errors in $(sed -n 's/ failed$//p' "$list" | tr '\n' ' ')"
        return 1
    fi
    if grep -qv ' ok$' "$list"; then
        skip "$(grep -c ' ok$' "$list") of $(wc -l <"$list") programs in time, without an error"
    fi
}

# sanitize_one TOOL PROGRAM
sanitize_one() {
    local tool=$1 name=$2 log=$work/$1-$2.log options=$quiet command=("$programs/$2") verdict=ok left
    left=$(($(seconds_left) - 3))
    if [ "$name" = trainer ]; then # with graphs, the first of which is launched in the second step
        command=("$programs/train_katcu" --model kat-mini-g3b --dim 48 --depth 1 --image-size 16 --batch-size 4 "${few[@]}"
                 --steps 3 --precision bf16 --output "$work/sanitized-$tool")
        options+=" $ours"
    fi
    if [ "$left" -lt 1 ]; then
        verdict="not begun"
    else
        # shellcheck disable=SC2086
        timeout -k 1 "$left" compute-sanitizer --tool "$tool" $options --error-exitcode 99 "${command[@]}" >"$log" 2>&1
        case $? in
        0) rm -f "$log" ;;
        124 | 137)
            verdict="not done in time"
            rm -f "$log"
            ;;
        *) verdict=failed ;;
        esac
    fi
    row "$tool" name "$name" verdict "$verdict"
    echo "$name $verdict"
}

# ---- trainer

trainer() {
    TRAIN_KAT=$programs/train_kat TRAIN_KATCU=$programs/train_katcu COMPARE=$programs/compare_dumps JOBS=8 \
        dev/test_cuda/test_train.sh
}
