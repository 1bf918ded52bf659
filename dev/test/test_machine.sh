#!/usr/bin/env bash
# What a machine may lack: stack, address space, threads, free choice of cores. A run has the same bytes, or one
# sentence says what is missing.
# Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"

small=(--device cpu --model kat-mini-g3b --batch-size 8 --steps 2 --train-images 24 --test-images 12 --threads 2 --overwrite)
tiny=(--device cpu --model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12
      --profile 1)

# ---- small stacks
"$program" "${small[@]}" --output "$work/right" >"$work/right.log" 2>&1
"$program" "${small[@]}" --precision bf16 --output "$work/right-bf16" >>"$work/right.log" 2>&1

same_bytes() { # same_bytes RIGHT ARGUMENTS...
    local right=$1
    shift
    "$program" "${small[@]}" --output "$work/run" "$@" && cmp "$work/$right/last.safetensors" "$work/run/last.safetensors"
}
for size in 128k 136k 152k 176k 512k; do
    check "threads with a stack of $size" env OMP_STACKSIZE=$size bash -c "$(declare -f same_bytes); $(declare -p work program small)
        same_bytes right"
done
check "bf16 with a stack of 152k" env OMP_STACKSIZE=152k bash -c "$(declare -f same_bytes); $(declare -p work program small)
    same_bytes right-bf16 --precision bf16"
small_stack() { (ulimit -s 256 && same_bytes right); }
check "ulimit -s 256" small_stack

# ---- small address space: a run, or a message; never silence
ends_in_time() { # ends_in_time KILOBYTES ARGUMENTS...
    local size=$1 code
    shift
    (ulimit -v "$size" && exec timeout 20 "$program" "$@") >"$work/small.log" 2>&1
    code=$?
    [ $code = 0 ] || { [ $code != 124 ] && [ $code -lt 128 ] && [ -s "$work/small.log" ]; }
}
sanitized() { grep -qa __asan_init "$program"; } # AddressSanitizer wants all of the address space
sanitized || for size in 60000 100000 160000 250000; do
    ldd "$program" 2>/dev/null | grep -q openblas && break # its start tries again for ever; builds for AVX do without
    check "ulimit -v $size: --help" ends_in_time $size --help
    check "ulimit -v $size: steps" ends_in_time $size "${tiny[@]}"
done
says_no_memory() { (ulimit -v 400000; "$program" --device cpu --model vit-base --batch-size 64 --profile 1 2>&1; [ $? = 1 ]) | grep 'error: no memory for'; }
sanitized || check "memory refused: our sentence, and exit status 1" says_no_memory

# ---- no thread to be had: by its limit of address space, since the superuser has none of threads
says_no_thread() {
    local error
    error=$( (ulimit -v 400000; ulimit -s 100000; "$program" "${tiny[@]}" --threads 64) 2>&1 >/dev/null)
    [ $? = 1 ] && grep -q 'no more than .* of 64 threads .* use --threads' <<<"$error" || { echo "$error"; return 1; }
}
sanitized || check "no thread to be had: our sentence, and exit status 1" says_no_thread

if sanitized; then echo "SKIPPED, not passed: small address spaces (a build with AddressSanitizer)"; fi

# ---- bound threads leave the other cores to the program
machine() { "$program" "${tiny[@]}" | sed -n 's/, products.*//; /^machine/p'; }
plain=$(machine)
check "the machine's line names threads and cores" grep -E '^machine +[0-9]+ threads on [0-9]+ cores$' <<<"$plain"
# a taskset of one core, and what is set by it, would hide what this is about
if [ "$(nproc)" -gt 1 ] && [ "${plain#*threads on}" != " 1 cores" ]; then
    # reading it is enough: a thread that is not bound prints as many cores as the machine has
    cores=$(nproc)
    for setting in OMP_PROC_BIND=true OMP_PROC_BIND=spread OMP_PROC_BIND=close OMP_PLACES=cores OMP_PLACES=threads \
                   'OMP_PLACES={0},{1}' 'GOMP_CPU_AFFINITY=0 1'; do
        check "$setting leaves the cores" test "$(export "${setting?}"; machine)" = "$(sed -E 's/[0-9]+ threads on/&/' <<<"$plain")"
    done
fi

verdict
