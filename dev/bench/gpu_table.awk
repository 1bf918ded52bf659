# Training steps side by side, from the rows that bench_cuda and torch_gpu.py write, an object a line: ours, each time that
# they were measured, then the fastest of PyTorch's for the same model and batch. For scripts/gpu_check.sh.
function text(name) {
    if (!match($0, "\"" name "\": \"[^\"]*\"")) { return "" }
    return substr($0, RSTART + length(name) + 5, RLENGTH - length(name) - 6)
}
function number(name) {
    if (!match($0, "\"" name "\": [-0-9.e]+")) { return 0 }
    return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0
}
function or_none(format, value) { return value ? sprintf(format, value) : "-" }
function rate(ms) { return number(ms) ? sprintf("%.1f", 1e3 * number("batch") / number(ms)) : "?" }
function spread() { return rate("ms_most") " - " rate("ms_least") }
text("part") == "ceilings" {
    printf "%s, %s the steps: copy %.2f TB/s, product %.0f TFLOP/s\n", text("size"), text("when"), number("copy_tb_s"),
           number("bf16_tflop_s")
}
text("part") == "steps" {
    model[++n] = text("name")
    batch[n] = number("batch")
    ours[n] = number("images_s")
    ours_spread[n] = spread()
    mfu[n] = number("mfu")
    memory[n] = number("memory_gb")
    of_vit[n] = number("of_vit")
    mhz[n] = number("mhz")
    watts[n] = number("watts")
    if (!start) { start = number("time") }
    at[n] = number("time") - start
}
text("part") == "torch" {
    key = text("name") " " number("batch")
    version = text("version")
    if (number("images_s") > theirs[key]) {
        theirs[key] = number("images_s")
        theirs_spread[key] = spread()
        way[key] = text("way")
        peer[key] = number("memory_gb")
        peer_of_vit[key] = number("of_vit")
    }
}
END {
    line = "%-14s %5s %5s %10s %19s %7s %8s %6s %6s %5s\n"
    printf "\n" line, "ours", "after", "batch", "images/s", "slowest - fastest", "MFU", "GB", "of ViT", "MHz", "W"
    for (i = 1; i <= n; i++) {
        printf line, model[i], at[i] " s", batch[i], sprintf("%.1f", ours[i]), ours_spread[i],
               sprintf("%.1f %%", 100 * mfu[i]), sprintf("%.3f", memory[i]), sprintf("%.3f", of_vit[i]),
               or_none("%.0f", mhz[i]), or_none("%.0f", watts[i])
    }
    if (version == "") { exit }
    line = "%-14s %5s %10s %19s %8s %6s %10s   %s\n"
    printf "\n" line, "PyTorch", "batch", "images/s", "slowest - fastest", "GB", "of ViT", "ours to it",
           "fastest way, of " version
    for (i = 1; i <= n; i++) {
        key = model[i] " " batch[i]
        if (!(key in way)) { continue }
        printf line, model[i], batch[i], sprintf("%.1f", theirs[key]), theirs_spread[key], sprintf("%.3f", peer[key]),
               or_none("%.3f", peer_of_vit[key]), sprintf("%.2f", ours[i] / theirs[key]), way[key]
    }
    print "\nOurs sends, augments and normalises its batch and takes the gradient's norm in every step; PyTorch's batch lies"
    print "on the device."
}
