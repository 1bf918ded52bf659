# shellcheck shell=bash disable=SC2154,SC2034
# Parts of scripts/gpu_check.sh: how fast is it?

bench() { "$programs/bench_cuda" "$1" "${@:2}" "${bench_flags[@]}" --json "$rows"; }

# Steps with the products that cublasLt proposes, and with the quickest of what it offers, timed when each comes up
products() {
    local model batch same choices failed=0
    while read -r model batch; do
        if ! short_run "$model" --model "$model" --batch-size "$batch" >"$work/run.log" 2>&1 ||
            ! short_run timed --model "$model" --batch-size "$batch" --tune-products on >"$work/run.log" 2>&1; then
            tail -n 5 "$work/run.log"
            row products name "$model" batch "$batch" runs no
            failed=1
            continue
        fi
        choices=$(($(wc -l <"$work/timed/products.txt") - 1)) # behind the line that names the device
        same=$(choices_are_taken "$choices")
        row products name "$model" batch "$batch" runs yes images_s "$(images_per_second "$work/$model")" \
            images_s_timed "$(images_per_second "$work/timed")" products "$choices" same_bits "$same"
        echo "$model $batch: $(images_per_second "$work/$model") images/s, with $choices timed products" \
            "$(images_per_second "$work/timed"); the same bits in two runs that go on with them: $same"
        if [ "$same" = no ]; then
            tail -n 5 "$work/run.log"
            failed=1
        fi
    done <<<"$product_models"
    return $failed
}

# choices_are_taken COUNT: yes or no; ? where the trainer reads no weights
choices_are_taken() {
    local run
    for run in 1 2; do
        rm -rf "$work/on-$run"
        if ! gpu_trainer --resume "$work/timed" --steps 25 --output "$work/on-$run" >"$work/run.log" 2>&1; then
            if grep -q "without cJSON" "$work/run.log"; then echo '?'; else echo no; fi
            return
        fi
    done
    grep -q "($1 are there)" "$work/run.log" && cmp -s "$work"/on-{1,2}/last.safetensors && echo yes || echo no
}

batches() {
    local batch
    for batch in 64 128 32 512; do
        bench tiny --steps-only --rounds 5 --batch-size $batch | grep '^vit-tiny\|^kat-tiny\|^step' || return
    done
    "$programs/train_katcu" --model vit-tiny "${smoke[@]}" --train-images 512 --test-images 8 --profile 5
}

bench_torch() {
    has_torch || { skip "no PyTorch for $python"; return; }
    # what is compiled is not broken off: the last model begins some time before the end
    timeout $(($(seconds_left) - 2)) "$python" dev/bench/torch_gpu.py "${torch_flags[@]}" \
        --seconds $(($(seconds_left) * 4 / 5)) --json "$rows"
    local status=$?
    if [ $status = 124 ]; then skip "not all done in time"; else return $status; fi
}

# Of each kernel of ours: time, occupancy, and shares of memory's and of the schedulers' rate
counters() {
    local metrics=gpu__time_duration.sum,sm__warps_active.avg.pct_of_peak_sustained_active
    local model kernel metric value found=0
    metrics+=,dram__throughput.avg.pct_of_peak_sustained_elapsed,smsp__issue_active.avg.pct_of_peak_sustained_active
    command -v ncu >/dev/null || { skip "no ncu"; return; }
    if ! timeout 60 ncu --clock-control none "$programs/probe" >"$work/trivial.log" 2>&1 ||
        grep -q ERR_ "$work/trivial.log"; then
        skip "ncu does not run here: $(grep '==ERROR==\|ERR_' "$work/trivial.log" | tail -n 1)"
        return
    fi
    for model in vit-tiny kat-tiny-g3b; do # the second launch: the first finds cold caches
        timeout $(($(seconds_left) / 2)) ncu --clock-control none --metrics $metrics --csv --kernel-id ::regex:_kernel:2 \
            "$programs/train_katcu" --model $model "${smoke[@]}" --train-images 256 --test-images 4 --steps 1 \
            --cuda-graph off --output "$work/counted-$model" >"$work/ncu.csv" 2>&1
        while IFS='|' read -r kernel metric value; do
            found=1
            row counters model "$model" kernel "$kernel" metric "$metric" value "$value"
            printf '%-14s %-60s %-55s %s\n' "$model" "$kernel" "$metric" "$value"
        done < <(counted)
    done
    if [ $found = 0 ]; then skip "ncu counts nothing here: $(tail -n 1 "$work/ncu.csv")"; fi
}

# ncu's table as KERNEL|METRIC|VALUE
counted() {
    awk -F'","' '
        { gsub(/^"|"$/, "") }
        $1 == "ID" { for (i = 1; i <= NF; i++) { column[$i] = i } }
        $1 ~ /^[0-9]+$/ && column["Metric Name"] {
            value = $column["Metric Value"]
            gsub(/,/, "", value)
            print substr($column["Kernel Name"], 1, 60) "|" $column["Metric Name"] "|" value
        }' "$work/ncu.csv"
}
