# The expected time of a step on a GPU from the counts of its launches and bytes (counts.txt): milliseconds and images/s.
#
#     awk -f roofline.awk ../test_cuda/instructions.txt ../test_cuda/resources.txt counts.txt
#
# A kernel takes the longest of: its bytes, at a share of the bandwidth of a copy; its products, at a share of the rate of
# a large one; its instructions, if instructions.txt has its main loop, at the issue rate of as many warps as its registers
# and shared memory allow on a multiprocessor, in whole waves of blocks. Added to that is a time for every boundary between
# kernels. Nothing here was measured with this program; caches are ignored.
#
# Assumptions:
BEGIN {
    # copy: bytes/s, read and written, and the rate of a large bf16 product, as measured with PyTorch on an H200, 90 and
    # 80 % of NVIDIA's figures; the others by the same shares. The clock is that of an H200 under such load.
    #         name    copy TB/s  TFLOP/s  SMs  GHz    arch   KB of shared memory
    device(1, "H200", 4.3,       790,     132, 1.755, "sm_90", 228)
    device(2, "H100", 3.0,       790,     132, 1.755, "sm_90", 228)
    device(3, "A100", 1.8,       250,     108, 1.41,  "sm_80", 164)
    boundary = 1.8e-6            # s from one kernel to the next of a graph
    early_boundary = 0.9e-6      # to an early launch: a guess, half; an A100 has none
    weight_boundaries = 2        # a weight's gradient: cublasLt splits its long sums, and adds the parts
    warp_issues = 0.05           # of a scheduler's slots that one warp a multiprocessor fills, of four schedulers; at most
    most_issued = 0.80           # so many are: attention's 14 warps 0.7, its dK and dV of 7 warps 0.35
    loop_products = 10           # the main loop is the one with the fewest instructions a tensor product, of so many
    # Shares of the copy's bandwidth, and of the large product's rate, by kernel; the last is for all others
    share["product"] = 0.82;                     rate_share["product"] = 0.72
    share["product,weight"] = 0.70;              rate_share["product,weight"] = 0.60
    share["layernorm_forward_kernel"] = 0.78;    share["layernorm_backward_kernel"] = 0.75
    share["activation_forward_kernel"] = 0.72;   share["activation_backward_kernel"] = 0.80
    share["rational_forward_kernel"] = 0.72;     share["rational_backward_kernel"] = 0.78
    share["column_sums_kernel"] = 0.50           # 2 bytes per load
    share["others"] = 0.75
    # Template arguments of these models' kernels in instructions.txt and resources.txt; G: of -gNb
    variant["attention_forward_tensor"] = variant["attention_backward_query_tensor"] = "<64, NoPlaces>"
    variant["attention_backward_key_tensor"] = "<64, NoPlaces>"
    variant["karat_forward_tensor"] = "<64>"
    variant["karat_backward_tensor"] = "<64, G, false>"
    variant["rational_forward_kernel"] = variant["rational_backward_kernel"] = "<5, 4, A, 8, bf16>"

    split("products norms activations attention bias_sums rest boundaries", groups, " ")
}

function device(n, name, copy, flops, sms, clock, arch, shared) {
    devices = n
    gpu[n] = name; bandwidth[n] = copy * 1e12; rate[n] = flops * 1e12
    processors[n] = sms; issue[n] = 4 * sms * clock * 1e9; code[n] = arch; shared_of[n] = shared * 1024
}

FNR == 1 { file++ }
FNR == 1 { next }
file == 1 { # a loop: instructions a tensor product, or an element
    name = substr($0, 1, 58)
    sub(/ *$/, "", name)
    split(substr($0, 59), f, " ")
    if (f[9] != "-") { per_element[name, f[2]] = f[9] }
    if (f[4] >= loop_products && (!((name, f[2]) in per_product) || f[3] / f[4] < per_product[name, f[2]])) {
        per_product[name, f[2]] = f[3] / f[4]
    }
    next
}
file == 2 {
    name = $0
    sub(/( +[0-9]+)+ *$/, "", name)
    registers[name, "sm_80"] = $(NF - 3); registers[name, "sm_90"] = $(NF - 2); static[name] = $NF
    next
}
/^#/ {
    if (/GFLOP an image/) { flops[$2 " " ($3 + 0)] = $4 * 1e9 } else { notes[++note_count] = substr($0, 3) }
    next
}
{ row() }

function largest(a, b) { return a > b ? a : b }
function smallest(a, b) { return a < b ? a : b }

# Blocks of a kernel that fit on a multiprocessor: registers are allocated 8 per thread. The launches are an H200's: a
# block that needs more shared memory than other GPUs have (KArAt's backward) counts as one per multiprocessor there.
function resident(n, name, threads, shared,   by_registers, by_shared) {
    by_registers = int(65536 / (int((registers[name, code[n]] + 7) / 8) * 8 * threads))
    by_shared = largest(1, int(shared_of[n] / (shared + static[name] + 1024)))
    return smallest(smallest(by_registers, by_shared), int(2048 / threads))
}

# Seconds for a row's instructions, 0 if their number is not known
function issue_time(n, model, what, launches, blocks, threads, shared, written, products,   name, grid, count, here,
                    filled, waves) {
    if (!(what in variant)) { return 0 }
    name = variant[what]
    if (match(model, /-g[0-9]+b/)) { grid = substr(model, RSTART + 2, RLENGTH - 3) }
    sub(/G/, grid, name)
    name = what name
    if (products > 0 && ((name, code[n]) in per_product)) {
        count = products * 1e3 * per_product[name, code[n]]
    } else if ((name, code[n]) in per_element) {
        count = written * 1e6 / 2 / 32 * per_element[name, code[n]]
    } else {
        unknown[name] = 1
        return 0
    }
    here = resident(n, name, threads, shared)
    filled = smallest(most_issued, warp_issues * here * threads / 32)
    waves = blocks / launches / (processors[n] * here)
    return count / issue[n] / filled * (int(waves) + (waves > int(waves))) / waves
}

function group_of(part, what) {
    if (what ~ /^product/) { return "products" }
    if (what ~ /^layernorm/ || (what == "add_partials_kernel" && part == "norm")) { return "norms" }
    if (what ~ /^(activation|rational)/ || part == "activation") { return "activations" }
    if (part == "attention") { return "attention" }
    if (what ~ /^(column_sums|add_partials)/) { return "bias_sums" }
    return "rest"
}

function row(   k, n, what, bytes, time, compute) {
    k = $1 " " $2
    what = $5
    if (!(k in launches)) { order[++models] = k; batch[k] = $2 }
    bytes = ($12 + $13) * 1e6
    launches[k] += $6
    total[k] += bytes
    for (n = 1; n <= devices; n++) {
        time = bytes / (bandwidth[n] * (what in share ? share[what] : share["others"]))
        compute = what in rate_share ? $11 * 1e9 / (rate[n] * rate_share[what]) : 0
        time = largest(time, compute)
        time = largest(time, issue_time(n, $1, what, $6, $8, $9, $10, $13, $14))
        spent[k, n, group_of($4, what)] += time
        step[k, n] += time
        time = $6 * boundary * (what == "product,weight" ? weight_boundaries : 1)
        if (code[n] != "sm_80") { time -= $7 * (boundary - early_boundary) }
        if (what !~ /^(copy|memset)$/ || $4 != "data") { spent[k, n, "boundaries"] += time; step[k, n] += time }
    }
}

END {
    printf "%-13s %5s %5s %8s %6s", "ms a step", "batch", "GPU", "launches", "GB"
    for (g = 1; g in groups; g++) { printf " %11s", groups[g] }
    printf " %7s %9s %4s\n", "step", "images/s", "MFU"
    for (n = 1; n <= devices; n++) {
        for (i = 1; i <= models; i++) {
            k = order[i]
            split(k, f, " ")
            printf "%-13s %5d %5s %8d %6.2f", f[1], f[2], gpu[n], launches[k], total[k] / 1e9
            for (g = 1; g in groups; g++) { printf " %11.3f", 1e3 * spent[k, n, groups[g]] }
            printf " %7.2f %9.0f %3.0f%%\n", 1e3 * step[k, n], batch[k] / step[k, n],
                100 * flops[k] * batch[k] / step[k, n] / rate[n]
        }
    }
    for (i = 1; i <= note_count; i++) { print notes[i] }
    for (name in unknown) { print "no loop of " name " is known: its bytes alone count" }
}
