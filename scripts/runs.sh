# What the experiment scripts share: the data set, reading finished runs. Sourced.

# need_cifar10 [FOLDER]: datasets/cifar10.*.kds are there, or made from the binary version in FOLDER; ends the script if not
need_cifar10() {
    [ -e datasets/cifar10.test.kds ] && return
    [ $# -ge 1 ] || { echo "give the folder of the CIFAR-10 binary version: $0 FOLDER" >&2; exit 2; }
    ./convert_data cifar10 "$1" datasets || exit 1
}

# last COLUMN RUN: the last value in a column of a run's metrics.csv
last() {
    awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) { place[$i] = i } next }
                          $place[name] != "" { value = $place[name] } END { print value }' "$2/metrics.csv"
}

# mean_sd FORMAT: the columns of numbers on standard input as "mean ± standard deviation", each by FORMAT, " | " between;
# of one number there is no standard deviation
mean_sd() {
    awk -v format="$1" '
        { n++; columns = NF; for (k = 1; k <= NF; k++) { sum[k] += $k; squares[k] += $k * $k } }
        function sd(k) { v = (squares[k] - sum[k] * sum[k] / n) / (n - 1); return v > 0 ? sqrt(v) : 0 }
        END { for (k = 1; k <= columns; k++) {
            printf (k > 1 ? " | " : "") format, sum[k] / n
            if (n > 1) { printf " ± " format, sd(k) } } }'
}
