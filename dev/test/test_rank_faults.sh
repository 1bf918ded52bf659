#!/usr/bin/env bash
# A run on several processes of which one fails, stands still, gets a signal or is not like the others: who says it and in
# which words, the exit status, how soon all have ended, and that the folder goes on. Needs CONVERT_DATA, too (default beside
# the trainer). Without MPI, and without mpirun, all of it is skipped. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
convert=$(realpath "${CONVERT_DATA:-$(dirname "$program")/convert_data}")
ranks=$PWD/scripts/ranks.sh
cd "$work" || exit 1
export ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} # MPI keeps memory to the end

if RANK=0 WORLD_SIZE=2 "$train" 2>&1 | grep -q "was built without MPI" || ! command -v "${MPIRUN:-mpirun}" >/dev/null; then
    echo "SKIPPED, not passed: faults of several processes (no MPI: install libopenmpi-dev and openmpi-bin)"
    verdict
    exit
fi
hydra() { "${MPIRUN:-mpirun}" --version 2>/dev/null | grep -q HYDRA; } # MPICH's; its exit status may be the signal that ended others

# Each rank leaves its process id in RANK.pid and does what odd.RANK says, if that is there, before it becomes the trainer.
cat >each <<END
#!/bin/sh
rank=\${OMPI_COMM_WORLD_RANK:-\$PMI_RANK}
echo \$\$ >\$rank.pid
export RANKS_NODE=node\$((rank % 2))
program=$train
if [ -e odd.\$rank ]; then . ./odd.\$rank; fi
exec "\$program" "\$@"
END
chmod +x each
now() { date +%s%N; }
# stretched SECONDS: as ms, and so many times as long as there is more work than cores
stretched() { awk -v most="$1" -v cores="$(nproc)" '{ n = $1 / cores; print int(1000 * most * (n > 1 ? n : 1)) }' /proc/loadavg; }
patience=$(($(stretched 5) / 1000)) # seconds of --rank-timeout, which no rank that works needs
waited="($(seq -s '|' $patience $((patience + 4)))) s" # as the first to notice says, before another does
# The steps are more than any of these runs comes to; they would end it if nothing else did.
run=(--model vit-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12 --threads 1
     --steps 50000 --eval-every 0 --log-every 1 --checkpoint-every 10 --rank-timeout 300)

start() { # start FLAGS...: of a run on three processes in the folder "run"
    rm -rf run ./*.pid
    since=$(now)
    "$ranks" 3 ./each "${run[@]}" --output run "$@" >log 2>&1 &
    pid=$!
}
start_working() { # the same; returns once it has saved
    start "$@"
    until [ -e run/last.resume.safetensors ] || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
    since=$(now)
}
signal() { kill "-$1" $(for rank in "${@:2}"; do cat "$rank.pid"; done); } # signal NAME RANK...
ended_in() { # ended_in LEAST MOST: so many seconds, of a machine that has nothing else to do
    took=$((($(now) - since) / 1000000))
    [ $took -ge $(($1 * 1000)) ] && [ $took -le "$(stretched "$2")" ]
}
ends() { # ends CODE LEAST MOST TEXT: with this exit status, after so many seconds, having said so, once
    wait $pid
    local code=$? in_time=no said
    ended_in "$2" "$3" && in_time=yes
    said=$(grep -acE -- "$4" log)
    if [ $code != 0 ] && hydra; then code=$1; fi
    [ $code = "$1" ] && [ $in_time = yes ] && [ "$said" = 1 ] && return
    echo "exit $code (want $1) after $took ms (want $2 to $3 s), said $said times: $4"
    grep -a "error: " log
    return 1
}
goes_on() { # two steps from where the folder stands
    local step
    step=$(LC_ALL=C grep -aoE '"step":"[0-9]+"' run/last.resume.safetensors | tr -dc 0-9)
    "$train" --resume run --steps $((step + 2)) --threads 1 >goes_on.log 2>&1
    [ $? = 0 ] && grep -q "^best top-1" goes_on.log && return
    tail -n 1 goes_on.log
    return 1
}
said_alone() { [ "$(grep -ac "error: " log)" = 1 ]; } # one sentence, of one rank

# ---- one is killed, or stands still
start_working
signal KILL 1
wait $pid 2>/dev/null
check "a rank that is killed: all have ended" ended_in 0 20
check "killed: the folder goes on" goes_on

start_working --rank-timeout $patience
signal STOP 1
check "a rank that stands still is told" ends 1 $patience 25 "^error: rank [02] has waited $waited for ranks? .*1 on node1.* at step [0-9]+ \(.*\): .* dead, stuck or waits? for one that is, or --rank-timeout is too short$"
check "by one of the others" said_alone
check "stood still: the folder goes on" goes_on
start_working --rank-timeout $patience
signal STOP 0
check "by another where it is the first" ends 1 $patience 25 "^error: rank [12] has waited $waited for ranks? 0.* at step"

start_working
signal STOP 2
signal TERM 0
check "after a signal to end 10 s are enough" ends 1 10 35 "^error: rank 0 has waited [1-9][0-9] s for ranks? .*2 on node0 at step [0-9]+ .*after a signal to end$"
check "after a signal: the folder goes on" goes_on

echo 'exec sleep 100' >odd.1
start --rank-timeout 2
check "a rank that never comes" ends 1 4 25 "^error: not all of 3 ranks have come within 4 s"
rm odd.1

# ---- signals that all of them obey
start_working
signal USR1 1
check "SIGUSR1 to one: all end, and ask to come again" ends 75 0 15 "^stopped at step [0-9]+: go on with --resume run$"
check "the folder goes on" goes_on
if hydra; then echo "SKIPPED, not passed: SIGUSR1 to mpirun (MPICH's does not hand it on)"; else
    start_working
    kill -USR1 $pid
    check "SIGUSR1 to mpirun" ends 75 0 15 "^stopped at step [0-9]+: go on with --resume run$"
fi
start_working
signal TERM 2
check "SIGTERM to one" ends 3 0 15 "^stopped at step [0-9]+: go on with --resume run$"
check "the folder goes on" goes_on
start_working
signal TERM 0 1 2
sleep 0.04
signal TERM 0 1 2 2>/dev/null
check "SIGTERM twice to all, as Slurm sends it" ends 3 0 15 "^stopped at step [0-9]+: go on with --resume run$"
start_working
kill -TERM $pid
wait $pid
check "SIGTERM to mpirun: the folder goes on" goes_on

# ---- two launches that are told one port: MPI's meet without one. Where NCCL's do, one of them is refused (test_ranks_cuda.sh)
of_two() { # of_two FOLDER
    MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 "$ranks" 2 "$train" "${run[@]}" --steps 20 --output "$1" >"$1.log" 2>&1
}
since=$(now)
of_two first &
both_end() { of_two second && wait $! && ended_in 0 30 && same_run first second; }
check "two launches that are told one port do not meet" both_end

# ---- what one of them cannot do
# A file that is a link to a device is written there; where rank 0 was about to replace the link, it is laid once more.
start_working
while kill -0 $pid 2>/dev/null; do ln -sf /dev/full run/last.safetensors; sleep 0.1; done
check "a full disk" ends 1 0 25 "^error: rank 0 on node0: cannot write /dev/full: No space left on device; what was there is unchanged"
check "is told once" said_alone
rm run/last.safetensors
check "a full disk: the folder goes on" goes_on

image_set() { # image_set NAME: NAME.train.kds and NAME.test.kds of black images
    mkdir "$1.idx"
    printf '\0\0\10\3\0\0\352\140\0\0\0\34\0\0\0\34' >"$1.idx/train-images-idx3-ubyte"
    printf '\0\0\10\1\0\0\352\140' >"$1.idx/train-labels-idx1-ubyte"
    printf '\0\0\10\3\0\0\47\20\0\0\0\34\0\0\0\34' >"$1.idx/t10k-images-idx3-ubyte"
    printf '\0\0\10\1\0\0\47\20' >"$1.idx/t10k-labels-idx1-ubyte"
    if [ "$1" = odd ]; then printf '\1' >>"$1.idx/train-images-idx3-ubyte"; fi # but for one pixel
    truncate -s 47040016 "$1.idx/train-images-idx3-ubyte"
    truncate -s 60008 "$1.idx/train-labels-idx1-ubyte"
    truncate -s 7840016 "$1.idx/t10k-images-idx3-ubyte"
    truncate -s 10008 "$1.idx/t10k-labels-idx1-ubyte"
    "$convert" mnist --any-hash "$1.idx" "$1" >/dev/null 2>&1
    rm -r "$1.idx"
}
image_set even
echo 'cd odd' >odd.1
mkdir odd
start --data even/mnist
check "one that fails says so, and which it is" ends 1 0 25 "^error: rank 1 on node1: .*even/mnist.train.kds"
check "alone" said_alone

# ---- one that is not like the others
image_set odd
mkdir odd/even && mv odd/mnist.* odd/even
start --data even/mnist
check "other data" ends 1 0 20 "^error: rank 1 on node1 has other images of --data even/mnist than rank 0: copy the same files to every node$"
check "are told once" said_alone
echo 'set -- "$@" --seed 9' >odd.1
start
check "other arguments" ends 2 0 20 "^error: rank 1 on node1 was started with other arguments than rank 0"
cp "$program" other && printf '\0' >>other
printf 'program=./other; set -- --device cpu "$@"\n' >odd.1
printf 'program="%s"; set -- --device cpu "$@"\n' "$program" | tee odd.0 >odd.2
start
check "another build" ends 2 0 20 "^error: rank 1 on node1 runs another build of ./train_kat than rank 0: copy the same program to every node$"
check "is told once" said_alone
rm odd.*[0-9]

# ---- a bit that flips: what rank 0 sends to rank 1 of the parameters (owners.h: transfer_tag), once the file "flip" is there
cat >flip.c <<END
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int MPI_Isend(const void* data, int bytes, MPI_Datatype type, int rank, int tag, MPI_Comm all, MPI_Request* request) {
    if (tag > 0 && (tag - 1 & 2) && rank == 1 && access("flip", F_OK) == 0) {
        char* other = memcpy(malloc((size_t)bytes), data, (size_t)bytes);
        other[bytes / 2] ^= 1;
        data = other;
    }
    return PMPI_Isend(data, bytes, type, rank, tag, all, request);
}
END
if OMPI_CC=${CC:-cc} mpicc -shared -fPIC -O1 -o flip.so flip.c 2>flip.log; then
    echo 'export LD_PRELOAD=$PWD/flip.so' >odd.0
    start_working
    touch flip
    check "a flipped bit" ends 1 0 30 "^error: rank 1 on node1 holds other parameters than rank 0 at step [0-9]+: its memory or GPU is faulty; the last good state is of step [0-9]+0$"
    check "is told once" said_alone
    check "what was saved before goes on" goes_on
    rm odd.0 flip
else
    echo "SKIPPED, not passed: parameters that differ (no mpicc)"
fi

# ---- what is not finite on one: libm's logarithm, which the loss takes, is NaN there once the file "nan" is there
printf '#include <math.h>\n#include <unistd.h>\ndouble log(double x) { return access("nan", F_OK) ? (double)logl(x) : NAN; }\n' >nan.c
if ! "${CC:-cc}" -shared -fPIC -O1 -o nan.so nan.c -lm 2>nan.log; then
    echo "SKIPPED, not passed: a loss that is not finite on one process (no C compiler: set CC)"
    verdict
    exit
fi
echo 'export LD_PRELOAD=$PWD/nan.so' >odd.1
start_working
touch nan
check "a loss that is not finite on one: all end, and it is named" ends 1 0 20 "^error: step [0-9]+ is not finite \(loss nan, .*the first bad tensor is rank 1's activation losses"
check "by one of them" said_alone
rm nan odd.1
check "not finite: the folder goes on" goes_on

verdict
