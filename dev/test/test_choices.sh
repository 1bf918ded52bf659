#!/usr/bin/env bash
# README's table of choices against the program's: what an option takes stands in its row, and nothing else does.
# Needs TRAIN_KAT (the program; default ./train_kat). Prints "N passed, N failed" last.
set -u
program=$(realpath "${TRAIN_KAT:-./train_kat}")
cd "$(dirname "$0")/../.."
passed=0 failed=0

of_program() { "$program" --help | tr -s ' ' | sed -n "s/^ --$1 \([^ ]*\).*/\1/p" | tr '|' '\n' | sort; }
of_readme() { awk -F'|' -v flag=" \`--$1\` " '$3 == flag { print $4 }' README.md | grep -o '`[^`]*`' | tr -d '`' | sort; }

for option in mlp attn basis karat-base karat-order; do
    if [ -n "$(of_program $option)" ] && difference=$(diff <(of_readme $option) <(of_program $option)); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: the row of --$option in README.md (<) has not the choices of $program (>)"
        echo "${difference:-}"
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
