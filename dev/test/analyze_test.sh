# What the shell tests of ./analyze share; to be sourced. Needs ANALYZE (the program; default ./analyze), and what
# trainer_test.sh needs. They continue in its folder, $work.
. "$(dirname "${BASH_SOURCE[0]}")/trainer_test.sh"
analyze=$(realpath "${ANALYZE:-./analyze}")
cd "$work" || exit 1

tells() { # tells CODE TEXT ARGUMENTS...: exit code and a part of what ./analyze prints
    local code=$1 text=$2
    shift 2
    "$analyze" "$@" >says.log 2>&1
    local got=$?
    [ $got = "$code" ] && grep -qF -- "$text" says.log && return
    echo "exit $got (want $code and \"$text\"): $(tail -1 says.log)"
    return 1
}

# Where gnuplot is missing, what draws pictures ends with 1 once its numbers are written.
have_gnuplot=no
if command -v gnuplot >/dev/null; then have_gnuplot=yes; fi
works() { # works TEXT ARGUMENTS...
    if [ $have_gnuplot = yes ]; then tells 0 "$@"; else tells 1 "gnuplot-nox" "${@:2}"; fi
}

near() { awk -v a="$1" -v b="$2" -v limit="$3" 'BEGIN { exit !(a != "" && b != "" && a - b <= limit && b - a <= limit) }'; }
