#!/usr/bin/env bash
# Every choice of --mlp, --attn, --basis and their like trains, is in its dump and in its row of README's table, which has
# no others. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
tiny=(--model vit-mini --attn karat --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12)

of_program() { "$train" --help | tr -s ' ' | sed -n "s/^ --$1 \([^ ]*\).*/\1/p" | tr '|' '\n' | sort; }
of_readme() { awk -F'|' -v flag=" \`--$1\` " '$3 == flag { print $4 }' README.md | grep -o '`[^`]*`' | tr -d '`' | sort; }

for option in mlp attn basis karat-base karat-order; do
    choices=$(of_program $option)
    check "--$option has choices" test -n "$choices"
    check "README's row of --$option (<) has the program's choices (>)" diff <(of_readme $option) <(echo "$choices")
    for choice in $choices; do
        check "--$option $choice" says 0 "wrote" "${tiny[@]}" "--$option" "$choice" --dump-state "$work/dump.safetensors"
        check "its dump says $choice" grep -qa "\"${option//-/_}\":\"$choice\"" "$work/dump.safetensors"
    done
done
verdict
