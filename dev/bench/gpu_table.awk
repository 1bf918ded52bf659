# Training steps side by side, from the rows that bench_cuda and torch_gpu.py write, an object a line: ours, and the
# fastest of PyTorch's for the same model. For scripts/gpu_check.sh.
function text(name) {
    if (!match($0, "\"" name "\": \"[^\"]*\"")) { return "" }
    return substr($0, RSTART + length(name) + 5, RLENGTH - length(name) - 6)
}
function number(name) {
    if (!match($0, "\"" name "\": [-0-9.e]+")) { return 0 }
    return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4) + 0
}
text("part") == "steps" {
    model[++n] = text("name")
    ours[n] = number("images_s")
    mfu[n] = number("mfu")
    memory[n] = number("memory_gb")
    of_vit[n] = number("of_vit")
}
text("part") == "torch" {
    split(text("name"), name, ",")
    if (number("images_s") > theirs[name[1]]) {
        theirs[name[1]] = number("images_s")
        peer[name[1]] = number("memory_gb")
    }
}
END {
    line = "%-15s %10s %8s %8s %8s %12s %8s %10s\n"
    printf line, "training step", "images/s", "MFU", "GB", "of ViT", "PyTorch", "GB", "ours to it"
    for (i = 1; i <= n; i++) {
        has = theirs[model[i]] > 0
        printf line, model[i], sprintf("%.1f", ours[i]), sprintf("%.1f %%", 100 * mfu[i]), sprintf("%.3f", memory[i]),
               sprintf("%.3f", of_vit[i]), has ? sprintf("%.1f", theirs[model[i]]) : "-",
               has ? sprintf("%.3f", peer[model[i]]) : "-", has ? sprintf("%.2f", ours[i] / theirs[model[i]]) : "-"
    }
}
