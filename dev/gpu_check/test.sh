#!/usr/bin/env bash
# Tests of scripts/gpu_check.sh without a GPU: most with stand-ins for the GPU's tools and for the programs, which take no
# time; then, once, the programs themselves under the emulation. Prints "N passed, N failed" last.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
export work_of_test
work_of_test=$(mktemp -d)
trap 'rm -rf "$work_of_test"' EXIT
bin=$work_of_test/bin programs=$work_of_test/programs report=$work_of_test/report
passed=0 failed=0

check() { # check SENTENCE COMMAND...: the command must succeed
    local sentence=$1
    shift
    if "$@" >"$work_of_test/check.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
        tail -n 5 "$work_of_test/check.log"
    fi
}

# ---- Stand-ins. PAUSE: seconds that each of them takes; OTHER_BITS: a run that goes on ends with other weights each time

stand_in() { # stand_in FILE: the script comes from standard input
    { echo '#!/usr/bin/env bash'; cat; } >"$1"
    chmod +x "$1"
}

mkdir "$bin" "$programs"
stand_in "$bin/nvidia-smi" <<'END'
case $* in
*compute_cap*) echo 9.0 ;;
*gpu=name*) echo Stand-in ;;
*query-gpu*) echo 1 ;;
esac
END
stand_in "$bin/nvcc" <<'END'
echo "release 13.0"
END
stand_in "$bin/compute-sanitizer" <<'END'
while [ ! -x "$1" ]; do shift; done
"$@"
END
stand_in "$bin/ncu" <<'END'
printf '"ID","Kernel Name","Metric Name","Metric Value"\n"1","x_kernel(float *, int)","ns","1,250.5"\n'
END
stand_in "$bin/python3" <<'END'
while [ $# -gt 0 ] && [ "$1" != --json ]; do shift; done
for model in vit-tiny kat-tiny; do
    sleep "${PAUSE:-0}"
    if [ $# -lt 2 ]; then continue; fi
    echo "{\"part\": \"torch\", \"name\": \"$model\", \"version\": \"2\", \"batch\": 256, \"ms\": 2}" >>"$2"
done
END
stand_in "$programs/probe" <<'END'
echo "Stand-in|9.0"
END
stand_in "$programs/train_katcu" <<'END'
sleep "${PAUSE:-0}"
while [ $# -gt 0 ]; do
    case $1 in
    --output)
        mkdir -p "$2"
        echo ",,,,,,,,1234.5" >"$2/metrics.csv"
        printf 'device\nshape\nshape\n' >"$2/products.txt"
        echo "weights ${others:-}" >"$2/last.safetensors"
        ;;
    --resume) echo "products   timed (2 are there)" && others=${OTHER_BITS:+$$} ;;
    --dump-state) echo dump >"$2" ;;
    esac
    shift
done
END
for name in train_kat convert_data; do cp "$programs/train_katcu" "$programs/$name"; done
stand_in "$programs/compare_dumps" <<'END'
echo "3 tensors, worst error 1e-06, of grad.x; 0 bad"
END
stand_in "$programs/bench_cuda" <<'END'
size=$1
while [ "$1" != --json ]; do shift; done
for model in vit kat; do
    sleep "${PAUSE:-0}"
    echo "{\"part\": \"steps\", \"name\": \"$model-$size\", \"batch\": 256, \"ms\": 1.5, \"ms_most\": 1.6}" >>"$2"
    echo "$model-$size 256"
done
END
for name in dev/test_cuda/test_*.cu; do
    name=$(basename "$name" .cu)
    echo 'sleep "${PAUSE:-0}"; echo "5 passed, 0 failed"' | stand_in "$programs/$name"
done

# gpu_check FLAG...: with the stand-ins on PATH, and what is no stand-in from the system
gpu_check() {
    PATH=$bin:/usr/bin:/bin PYTHON=$bin/python3 CUDA_HOME="" CUDA_FOLDERS="" \
        scripts/gpu_check.sh --json "$report.json" --programs "$programs" "$@" >"$report.out" 2>&1
}
says() { grep -qF -- "$1" "$report.out" || { tail -n 20 "$report.out"; false; }; }
status() { # status CODE COMMAND...
    local wanted=$1 got
    shift
    "$@"
    got=$?
    [ $got = "$wanted" ] || { echo "exit status $got, not $wanted"; tail -n 20 "$report.out"; false; }
}
valid_json() {
    if command -v python3 >/dev/null; then python3 -m json.tool "$1" >/dev/null; else grep -q '^ \]}$' "$1"; fi
}

# ---- A whole run

check "a run in which one part fails ends with 1" status 1 gpu_check
for part in smoke kernels shapes {mem,sync,race}check bench-{tiny,base,small} products batches torch again counters; do
    check "$part is ok" grep -q "^-- $part  *ok" "$report.out"
done
check "the trainer's comparison, of stand-ins, fails" \
    grep -q '^-- trainer  *FAILED: [0-9]* passed, [0-9]* failed' "$report.out"
check "the report is JSON" valid_json "$report.json"
check "the report is finished" grep -q '"finished": true' "$report.json"
check "smoke's rate" \
    grep -q '"part": "smoke", "name": "kat-tiny-g3b", "runs": "yes", "images_s": 1234.5.*"same_bits": "yes"' "$report.json"
check "rates by timed products" grep -q \
    '"vit-base", "batch": 64, .*"images_s": 1234.5, "images_s_timed": 1234.5, "products": 2, "same_bits": "yes"' "$report.json"
check "six shapes in three precisions" test "$(grep -c '"part": "shapes".*"tensor": "grad.x"' "$report.json")" = 18
kernels=$(echo dev/test_cuda/test_*.cu | wc -w)
check "every kernel's verdict" test "$(grep -c '"part": "kernels", "name"' "$report.json")" = "$kernels"
check "a kernel's counters" grep -q '"kernel": "x_kernel(float \*, int)", "metric": "ns", "value": 1250.5' "$report.json"
check "nothing is missing" status 1 grep -q ^missing "$report.out"
check "the sum" says "14 passed, 1 failed"
OTHER_BITS=1 check "runs that go on with timed products to other bits" status 1 gpu_check --only products
check "fail" grep -q '^-- products  *FAILED' "$report.out"

# ---- What is finished is on disk, whatever happens

killed_keeps_rows() { # SECONDS SIGNAL: so long after it has begun
    local pid part size
    rm -f "$report".*
    PAUSE=0.1 gpu_check --only smoke,kernels,bench,torch &
    pid=$!
    while ! grep -qs "at most" "$report.out"; do sleep 0.1; done # a busy machine may take long until it has begun
    sleep "$1"
    pid=$(ps_children "$pid")
    kill -"$2" "$pid"
    wait
    echo "killed after $1 s"
    valid_json "$report.json" || return
    while read -r _ part _; do
        grep -q "\"part\": \"$part\", \"verdict\": \"" "$report.json" || { echo "no verdict of $part"; return 1; }
        size=${part#bench-}
        if [ "$size" = "$part" ]; then continue; fi
        [ "$(grep -c "\"name\": \"[a-z]*-$size\"" "$report.json")" -ge 2 ] || { echo "no rows of $part"; return 1; }
    done < <(grep '^-- [a-z-]* *ok' "$report.out")
    ! grep -v '^{.*}$' "$report.rows"
}
ps_children() { # of a function in the background: the script that it has started
    local stat fields
    for stat in /proc/[0-9]*/stat; do
        fields=$(cat "$stat" 2>/dev/null) || continue
        # shellcheck disable=SC2086
        set -- "$1" ${fields##*) }
        if [ "$3" = "$1" ]; then basename "$(dirname "$stat")"; fi
    done | head -n 1
}
for i in 1 2 3 4; do
    moment=$(awk -v i=$i -v r=$RANDOM 'BEGIN { printf "%.2f", 1.5 * (i - 1) + 0.6 + 1.5 * r / 32768 }')
    check "killed after $moment s, it keeps what was finished" killed_keeps_rows "$moment" KILL
done
sleep 1 # what the killed ones had started
check "stopped after 2 s, it keeps what was finished" killed_keeps_rows 2 TERM
check "and says so" grep -q 'FAILED: stopped by a signal' "$report.json"

stand_in "$bin/hang" <<'END'
echo $$ >"$work_of_test/hanging"
echo '{"part": "hang", "unfinished' >>"$work_of_test/part.rows"
timeout 300 sleep 300 & # in a group of its own
sleep 300
END
overrun() ( # a part that does not end, and what it has started
    script=$PWD/scripts/gpu_check.sh json=$work_of_test/part.json work=$work_of_test
    emulated=no minutes=1 programs="" arch="" python="" tests="" smoke=() shapes=() shape_models=() classes=() product_models="" bench_flags=() torch_flags=() orders=""
    . dev/gpu_check/report.sh
    . dev/gpu_check/session.sh
    PATH=$bin:$PATH
    begin_report
    row before x 1
    run_part hang 2
    sleep 0.2
    read -r leader <"$work_of_test/hanging"
    for stat in /proc/[0-9]*/stat; do
        fields=$(cat "$stat" 2>/dev/null) || continue
        # shellcheck disable=SC2086
        set -- ${fields##*) }
        if [ "$4" = "$leader" ]; then
            echo "left: $fields"
            exit 1
        fi
    done
    valid_json "$json" && grep -q '"before"' "$json" &&
        grep -q '"part": "hang", "verdict": "FAILED: not done in 2 s"' "$json"
)
check "a part that does not end is ended with all that it started" overrun

# ---- Too little time, and parts that are not there

check "the last parts are left out where the minutes are too few" gpu_check --only smoke,trainer --minutes 1
check "and this is said" grep -q '^-- trainer  *skipped: 1 minutes are too few' "$report.out"
check "an unknown part" status 2 gpu_check --only smoke,no-part
check "minutes that are none" status 2 gpu_check --minutes many
mv "$programs/test_loss" "$work_of_test/"
check "a test that was not built" status 1 gpu_check --only kernels
check "counts as failed" grep -q '^-- kernels  *FAILED: [0-9]* passed, [1-9][0-9]* failed' "$report.out"
mv "$work_of_test/test_loss" "$programs/"

# ---- Tools that are missing, or answer with errors

stand_in "$bin/nvidia-smi" <<'END'
echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
END
rm "$bin/nvcc" "$bin/compute-sanitizer" "$bin/ncu"
echo 'exit 1' | stand_in "$bin/python3"
stand_in "$programs/train_kat" <<'END'
if [[ $* = *--eval* ]]; then echo "error: cannot read it: this program was built without cJSON"; exit 1; fi
END
check "without all of them it runs" gpu_check --only smoke,memcheck,torch,counters
for name in "nvidia-smi: no clocks; it says: NVIDIA-SMI has failed" nvcc compute-sanitizer ncu PyTorch libcjson; do
    check "it misses $name" says "missing: $name"
done
check "they are in the report" test "$(grep -c '"part": "missing"' "$report.json")" = 6
for part in memcheck torch counters; do check "$part is skipped" grep -q "^-- $part  *skipped: no " "$report.out"; done
check "the GPU is known nevertheless" grep -q '"gpu": "Stand-in", "capability": 9.0' "$report.json"
mv "$programs" "$programs.away"
check "without programs, nvcc and nvidia-smi there is no GPU" status 1 gpu_check
check "which it says" says "There is no GPU here"
stand_in "$bin/nvidia-smi" <<'END'
case $* in
*compute_cap*) echo 9.0 ;;
*) echo Stand-in ;;
esac
END
check "without programs and nvcc" status 1 gpu_check
check "it wants nvcc" says "but no nvcc (on PATH, in CUDA_HOME/bin or /usr/local/cuda/bin)"
check "also in the report" grep -q '"machine", "verdict": "FAILED: There is a GPU here, but no nvcc' "$report.json"

# ---- Programs that are built: here, and to be carried

mv "$programs.away" "$work_of_test/source"
export BUILD
BUILD=$(realpath --relative-to=. "$work_of_test")/built
echo 'echo "release 13.0"' | stand_in "$bin/nvcc"
stand_in "$bin/make" <<'END'
while [ $# -gt 0 ]; do
    case $1 in
    -C) cd "$2" && shift ;;
    nvcc) command -v nvcc ;;
    *=* | */config.mk) ;;
    */*) mkdir -p "$(dirname "$1")" && cp "$work_of_test/source/$(basename "$1")" "$1" || status=2 ;;
    esac
    shift
done
exit "${status:-0}"
END
mkdir "$programs"
echo 'echo "GLIBC_2.99 not found"; exit 1' | stand_in "$programs/probe"
check "programs that do not run here are built" gpu_check --only smoke
check "and this is said" says "they do not run here, so they are built: GLIBC_2.99 not found"
check "the build has its verdict" grep -q '^-- build  *ok' "$report.out"
rm "$work_of_test/source/test_loss"
check "where one cannot be built, the others run" status 1 gpu_check --only smoke
check "the build has failed" grep -q '^-- build  *FAILED' "$report.out"
check "the steps have not" grep -q '^-- smoke  *ok' "$report.out"
build_to_carry() {
    rm -r "$programs" "$work_of_test/built"
    PATH="$bin:$PATH" scripts/gpu_check.sh --build "$programs" --arch sm_90 >"$report.out" 2>&1
}
check "to be carried, where one cannot be built" status 1 build_to_carry
check "it is named" says "not built: test_loss"
check "the others are there" test -x "$programs/test_residual" -a -x "$programs/train_katcu"
echo 'echo "5 passed, 0 failed"' | stand_in "$work_of_test/source/test_loss"
check "to be carried" build_to_carry
rm "$bin/nvcc"
check "they run where there is no compiler" gpu_check --only smoke,kernels
check "with the commit that they are of" grep -q "\"commit\": \"$(cat "$programs/commit")\"" "$report.json"
unset BUILD
rm "$bin/make"

# ---- The makefiles

stand_in "$bin/nvidia-smi" <<'END'
echo 'Field "compute_cap" is not a valid field to query.'
END
mkdir -p "$work_of_test/toolkit/bin"
echo 'echo sm_80; echo sm_90' | stand_in "$work_of_test/toolkit/bin/nvcc"
architectures() { # TEXT: what nvcc is given
    PATH=$bin:/usr/bin:/bin CUDA_HOME=$work_of_test/toolkit make -s -n -B -C dev/test_cuda "${@:2}" \
        ../../build/test_cuda/probe | grep -F -- "$1"
}
check "nvcc is found in CUDA_HOME" architectures "$work_of_test/toolkit/bin/nvcc "
check "an error of nvidia-smi is no architecture" architectures \
    "nvcc -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 "
check "the architectures that were asked for" architectures \
    "nvcc -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 " CUDA_ARCH=sm_90
echo 'echo 9.0' | stand_in "$bin/nvidia-smi"
check "that of the card" architectures "nvcc -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 "

# ---- The programs themselves

if command -v nvcc >/dev/null || [ -n "${CUDA_HOME:-}" ]; then
    check "under the emulation" scripts/gpu_check.sh --emulated --json "${JSON:-$report.json}"
    grep ': skipped\|: FAILED' "$work_of_test/check.log"
else
    echo "SKIPPED, not passed: no CUDA toolkit, the headers of which the emulation needs"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
