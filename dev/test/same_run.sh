# When two folders hold one run; to be sourced.

losses() { cut -d, -f1-7,12-17 "$1/metrics.csv"; } # without the timings

same_run() { # same_run FOLDER FOLDER: the same files of weights and state, the same bytes in each, the same losses
    local file
    diff <(cd "$1" && ls -- *.safetensors) <(cd "$2" && ls -- *.safetensors) || return
    for file in "$1"/*.safetensors; do cmp "$file" "$2/${file##*/}" || return; done
    diff <(losses "$1") <(losses "$2")
}
