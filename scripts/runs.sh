# What the experiment scripts share: reading finished runs. Sourced.

# last COLUMN RUN: the last value in a column of a run's metrics.csv
last() {
    awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) { place[$i] = i } next }
                          $place[name] != "" { value = $place[name] } END { print value }' "$2/metrics.csv"
}

# mean_sd FORMAT: the columns of numbers on standard input as "mean ± standard deviation", each by FORMAT, " | " between
mean_sd() {
    awk -v format="$1" '
        { n++; columns = NF; for (k = 1; k <= NF; k++) { sum[k] += $k; squares[k] += $k * $k } }
        function sd(k) { v = n > 1 ? (squares[k] - sum[k] * sum[k] / n) / (n - 1) : 0; return v > 0 ? sqrt(v) : 0 }
        END { for (k = 1; k <= columns; k++) { printf (k > 1 ? " | " : "") format " ± " format, sum[k] / n, sd(k) } }'
}
