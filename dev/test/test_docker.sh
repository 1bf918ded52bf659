#!/usr/bin/env bash
# Dockerfile and Dockerfile.cuda without Docker: the files that they copy exist, scripts are executable, what they make
# are targets, and no build output goes into an image. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"

targets() { sed -n 's/^\(PROGRAMS\|CUDA_PROGRAMS\) = //p' Makefile; echo install; }
for file in Dockerfile Dockerfile.cuda; do
    check "$file begins with an image" grep -qE '^FROM [a-z/]+:[a-z0-9.-]+$' $file
    while read -r _ from _; do check "$file copies $from" test -e "$from"; done < <(grep '^COPY' $file)
    for script in $(grep -oE 'scripts/[a-z_]+\.sh' $file | sort -u); do check "$file: $script can be run" test -x "$script"; done
    for name in $(sed -n 's/^RUN //p' $file | grep -oE 'make [^&]*' | sed 's/make//; s/-j[0-9]*//; s/[A-Z_]*="[^"]*"//'); do
        check "$file: make $name" grep -qw -- "$name" <(targets)
    done
    check "$file runs the quickstart" grep -qx 'CMD \["scripts/quickstart.sh"\]' $file
    check "$file: each RUN is a shell's" bash -n <(sed -n 's/^RUN //p' $file)
    for argument in $(sed -n 's/^ARG \([A-Z_]*\).*/\1/p' $file); do
        check "$file uses $argument" grep -qE "(RUN|ENV) .*\\\$$argument" $file
    done
done
for name in $(sed -n 's/^\(PROGRAMS\|CUDA_PROGRAMS\) = //p' Makefile) build runs; do
    check "$name stays outside" grep -qx "$name" .dockerignore
done
verdict
