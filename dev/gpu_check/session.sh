# shellcheck shell=bash disable=SC2154,SC2034
# A part runs in a session of its own, so that at its end nothing that it started is left: programs make groups of their
# own (timeout does), sessions they do not.

end_session() {
    local stat fields
    if [ -z "${session:-}" ]; then return; fi
    for stat in /proc/[0-9]*/stat; do
        fields=$(cat "$stat" 2>/dev/null) || continue
        # shellcheck disable=SC2086
        set -- ${fields##*) } # state, parent, group, session
        if [ "$4" = "$session" ]; then kill -KILL "$(basename "$(dirname "$stat")")" 2>/dev/null; fi
    done
    session=""
}

# What a part has to know, arrays too
write_settings() {
    declare -p work json rows log verdicts device emulated programs arch python tests smoke shapes shape_models classes \
        product_models bench_flags torch_flags orders >"$work/settings"
}

# run_part NAME SECONDS: the part's function prints its reason last, and returns 77, where it has nothing to do
run_part() {
    local name=$1 seconds=$2 start=$SECONDS status words
    running=$name
    write_settings
    ends=$(($(date +%s) + seconds)) setsid "$script" --inside "$work" do_part "$name" >"$work/part.log" 2>&1 </dev/null &
    session=$!
    while kill -0 "$session" 2>/dev/null && [ $((SECONDS - start)) -lt "$seconds" ]; do
        sleep 0.2
        report_new_rows
    done
    if kill -0 "$session" 2>/dev/null; then status=124; fi
    end_session
    wait $! 2>/dev/null || status=${status:-$?}
    cat "$work/part.log" >>"$log"
    case ${status:-0} in
    0) words=ok ;;
    77) words="skipped: $(tail -n 1 "$work/part.log")" ;;
    124) words="FAILED: not done in $seconds s" ;;
    *) words="FAILED: $(last_words)" ;;
    esac
    case $name:$words in
    smoke:* | shapes:* | bench-*:* | products:* | batches:* | torch:* | again:* | counters:*) cat "$work/part.log" ;;
    *FAILED*) tail -n 25 "$work/part.log" ;;
    esac
    verdict "$name" "$words" $((SECONDS - start))
    running=""
}

# Of a part that failed: the sum of its tests, or its last line
last_words() {
    { grep -v '^make\|^$' "$work/part.log" | tail -n 1; grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/part.log"; } |
        tail -n 1 | cut -c 1-100
}

seconds_left() { echo $((ends - $(date +%s))); }
skip() { echo "$*"; return 77; }
