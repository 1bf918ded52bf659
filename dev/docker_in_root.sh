#!/usr/bin/env bash
# A Dockerfile's COPY and RUN lines, and its CMD, executed in order in a root folder, where Docker itself cannot run:
#     debootstrap --variant=minbase bookworm ROOT && dev/docker_in_root.sh Dockerfile ROOT
# As root. It supports what this project's Dockerfiles use, and refuses the rest. The base image is ROOT, which for
# Dockerfile.cuda needs g++ too; with CUDA_HOME, that toolkit is in it as /usr/local/cuda.
set -eu
file=$(realpath "$1") root=$(realpath "$2")
cd "$(dirname "$0")/.."

mounted=()
mount_at() { mkdir -p "$root$2" && mount --bind "$1" "$root$2" && mounted+=("$root$2"); }
leave() { for at in "${mounted[@]}"; do umount "$at"; done; }
trap leave EXIT
mount_at /proc /proc
mount_at /dev /dev
if [ -n "${CUDA_HOME:-}" ]; then mount_at "$(realpath "$CUDA_HOME")" /usr/local/cuda; fi
cp /etc/resolv.conf "$root/etc/resolv.conf"

folder=/ settings=
inside() { chroot "$root" /bin/bash -ec "cd $folder; export PATH=\$PATH:/usr/local/cuda/bin; $settings $1"; }

copy() { # copy FROM: the project's files, committed or not, to the same place
    git ls-files -z --cached --others --exclude-standard -- "$1" | tar --null -T - -c | tar -x -C "$root$folder"
}

while read -r word rest; do
    case $word in
    '' | '#'* | FROM) continue ;;
    WORKDIR) folder=$rest && mkdir -p "$root$folder" ;;
    COPY) echo "COPY $rest" && copy "${rest% *}" ;;
    ARG | ENV) settings+="export $rest; " ;;
    RUN) echo "RUN $rest" && inside "$rest" ;;
    CMD) command=$(tr -d '[]",' <<<"$rest") && echo "CMD $command" && inside "$command" ;;
    *) echo "$file: $word is not understood" >&2 && exit 1 ;;
    esac
done <"$file"
