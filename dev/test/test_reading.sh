#!/usr/bin/env bash
# dev/READING.md names functions, files and flags that exist, and each function "in FILE" is in that file. Prints
# "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"

defined() { grep -rqE --include='*.[ch]' "^[A-Za-z].*[ *]$1\(" train_vit.c kernels model data runtime trainer; }
quoted() { grep -oE "\`$1\`" dev/READING.md | tr -d '\`' | sort -u; }

functions=$(quoted '[a-z_0-9]+\(\)')
check "it names functions" test "$(echo "$functions" | wc -l)" -gt 30
for function in $functions; do check "$function is in the code" defined "${function%??}"; done

for file in $(quoted '[A-Za-z_0-9/.]+\.(c|h|cu|cuh|md|sh)' | sed 's/NAME/attention/'); do
    check "$file is there" test -e "$file"
done

while read -r function file; do
    check "$function is in $file" grep -qE "^[A-Za-z].*[ *]$function\(" "$file"
done < <(grep -oE '`[a-z_0-9]+\(\)` in `[a-z_0-9/.]+`' dev/READING.md | tr -d '\`()' | sed 's/ in / /')

for flag in $(grep -oE -- '--[a-z][a-z-]+' dev/READING.md | sort -u); do
    check "$flag is a flag" sh -c "\"$train\" --help | grep -qE -- '$flag[ |]'"
done
verdict
