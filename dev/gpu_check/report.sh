# shellcheck shell=bash disable=SC2154,SC2034
# What scripts/gpu_check.sh knows so far, on disk at any moment.
#
#   $json    the report, replaced as a whole whenever something is known that it lacks
#   $rows    an object a line, appended by whoever measures
#   $log     all output

begin_report() {
    rows=${json%.json}.rows log=${json%.json}.log verdicts=$work/verdicts
    device="no GPU" rows_told=0 finished=false
    : >"$rows" && : >"$log" && : >"$verdicts" || exit 1
    write_json
}

tell() { echo "$*" | tee -a "$log"; }

# row PART NAME VALUE NAME VALUE...: numbers become numbers
row() {
    local line="{\"part\": \"$1\"" value
    shift
    while [ $# -gt 1 ]; do
        value=$2
        if ! [[ $value =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$ ]]; then
            value=${value//[\"\\]/}
            value="\"${value//[[:cntrl:]]/ }\""
        fi
        line+=", \"$1\": $value"
        shift 2
    done
    echo "$line}" >>"$rows"
}

# verdict PART TEXT SECONDS
verdict() {
    printf '%s|%s|%s\n' "$1" "${2//|//}" "$3" >>"$verdicts"
    write_json
    tell "$(printf -- '-- %-14s %s (%d s)' "$1" "$2" "$3")"
}

# A line that a killed program left unfinished is no row. In a subshell: what a signal sets off must not write there.
write_json() {
    (
        printf '{"device": "%s", "commit": "%s", "date": "%s", ' "$device" "$(commit)" "$(date -u +%FT%TZ)"
        printf '"seconds": %d, "minutes": %d, "finished": %s,\n "verdicts": [\n' "$SECONDS" "$minutes" "$finished"
        sed -e 's/["\\[:cntrl:]]//g' -e 's/^\(.*\)|\(.*\)|\([0-9]*\)$/  {"part": "\1", "verdict": "\2", "seconds": \3},/' \
            -e '$s/,$//' "$verdicts"
        printf ' ],\n "rows": [\n'
        sed -n '/^{.*}$/p' "$rows" | sed -e 's/^/  /' -e '$!s/$/,/'
        printf ' ]}\n'
    ) >"$json.new" && mv -f "$json.new" "$json"
}

# Those that a part has written while it goes on
report_new_rows() {
    local count
    count=$(wc -l <"$rows")
    if [ "$count" != "$rows_told" ]; then
        rows_told=$count
        write_json
    fi
}

commit() { cat "$programs/commit" 2>/dev/null || git describe --always --dirty 2>/dev/null; }

stopped() {
    trap '' INT TERM HUP
    verdict "${running:-machine}" "FAILED: stopped by a signal" "$SECONDS"
    exit 1
}

finish_report() {
    local failed
    finished=true
    write_json
    failed=$(grep -c '|FAILED' "$verdicts")
    tell
    sed 's/|\([0-9]*\)$/ (\1 s)/; s/|/: /' "$verdicts" | tee -a "$log"
    tell
    awk -f dev/bench/gpu_table.awk "$rows" | tee -a "$log"
    tell
    tell "$SECONDS s; every number is in $json"
    tell "$(grep -c '|ok|' "$verdicts") passed, $failed failed"
    [ "$failed" = 0 ]
}
