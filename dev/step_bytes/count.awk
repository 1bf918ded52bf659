# From records of one step (EMU_RECORD, by step_bytes.cu) the rows of counts.txt: what it launches, and moves.
#
#     awk -v model=NAME -v batch=B -f count.awk DRY [ONE TWO MORE]
#
# DRY is of B images and 132 multiprocessors, and has the launches. In ONE an image runs on one multiprocessor, in TWO
# two images, in MORE these two on several: there bytes and tensor products were counted. Each number of a launch is a
# constant, a part per image and a part per block; if a kernel adds up what an earlier one's blocks have left, a part
# per block of that. Without these three, bytes are not given.
#
# Three blocks of the model ran: the middle one represents all except the first and the last. What the update moves
# grows with the parameters.
BEGIN {
    FS = "\t"
    line = "%-13s %5s  %-8s  %-11s  %-31s %8s %5s %9s %8s %7s %9s %9s %8s %8s\n"
}
FNR == 1 {
    file++
    started = count = from = 0
}
$1 == "note" && $2 == "step" {
    started = 1
    split($0, step, FS)
    tokens = step[3]; width = step[4]; depth = step[5]; growth = step[6] / step[7]; flops = step[8]
}
!started { next }
$1 == "note" && $2 == "part" { # what went before, since the last part, was this one
    gsub(/, /, ",", $4)
    gsub(/ /, "-", $4)
    for (i = from + 1; i <= count; i++) {
        direction[i] = $4 == "data" ? "forward" : $3 # the batch, taken before the step sets out
        part[i] = $4
    }
    from = count
    next
}
$1 != "note" { operation(++count) }

function operation(i,   name) {
    name = $1
    if ($1 == "launch") {
        name = $2
        sub(/<.*/, "", name)
        blocks[file, i] = $4; threads[i] = $5; shared[i] = $6
        read[file, i] = $7; written[file, i] = $8; tensor[file, i] = $9
        early[i] = $10
    } else if ($1 == "product") {
        name = "product" ($7 == 4 && $8 ? ",weight" : "")
        if (file == 1) { work[i] = 2 * $2 * $3 * $4 * $5 }
        read[file, i] = $9; written[file, i] = $10
    } else { # a copy, or a memset
        read[file, i] = $1 == "copy" ? $2 : 0
        written[file, i] = $2
    }
    if (file > 1 && name != what[i]) { refuse("launches differ with the batch: " what[i] ", " name) }
    what[i] = name
    if (file == 1) { operations = i }
}

function refuse(why) {
    print "count.awk: " model ": " why >"/dev/stderr"
    failed = 1
    exit 1
}

# Of operation i, in the size of DRY
function in_size(v, i,   a_block, an_image, here) {
    if (what[i] ~ /^(product|copy|memset)/) { return v[1, i] + 0 }
    if (file == 1) { return 0 }
    here = i
    if (v[4, i] != v[3, i] && blocks[4, i] == blocks[3, i]) { here = producer }
    if (v[4, i] != v[3, i] && blocks[4, here] == blocks[3, here]) { refuse("no grid tells the bytes of " what[i]) }
    if (v[4, i] != v[3, i]) { a_block = (v[4, i] - v[3, i]) / (blocks[4, here] - blocks[3, here]) }
    an_image = v[3, i] - v[2, i] - a_block * (blocks[3, here] - blocks[2, here])
    return v[3, i] + an_image * (batch - 2) + a_block * (blocks[1, here] - blocks[3, here])
}

# The period of the block in the middle: from where it begins to where the next does
function find_middle(   i, begins, seen) {
    for (i = 1; i <= operations; i++) {
        if (direction[i] != direction[i - 1]) { seen = 0 }
        begins = (direction[i] == "forward" && part[i] == "qkv") || (direction[i] == "backward" && part[i] == "fc2")
        if (begins && part[i - 1] != part[i]) { seen++ }
        period[i] = direction[i] == "update" ? 0 : seen
    }
}

# Launches alone are compared with those of an earlier count: they are what DRY says by itself
function print_rows(   i, r, k) {
    for (r = 1; r <= rows; r++) {
        k = order[r]
        split(k, f, FS)
        printf line, model, batch, f[1], f[2], f[3], launches[k], launched_early[k], grid[k], of_block[k], of_shared[k],
            sprintf("%.3f", gflop[k]), file == 1 ? "-" : sprintf("%.3f", mb_read[k]),
            file == 1 ? "-" : sprintf("%.3f", mb_written[k]), file == 1 ? "-" : sprintf("%.1f", kmma[k])
    }
}

function add(i,   k, times, moved, put, products) {
    k = direction[i] FS part[i] FS what[i]
    if (blocks[4, i] != blocks[3, i]) { producer = i }
    times = period[i] == 2 ? depth - 2 : 1
    moved = in_size(read, i)
    put = in_size(written, i)
    products = in_size(tensor, i)
    if (direction[i] == "update") { moved *= growth; put *= growth }
    if (!(k in launches)) { order[++rows] = k }
    launches[k] += times
    launched_early[k] += times * early[i]
    grid[k] += times * blocks[1, i]
    if (threads[i] >= of_block[k]) { of_block[k] = threads[i] + 0; of_shared[k] = shared[i] + 0 } # not the last block's
    gflop[k] += times * work[i] / 1e9
    mb_read[k] += times * moved / 1e6
    mb_written[k] += times * put / 1e6
    kmma[k] += times * products / 1e3
    of_period[direction[i], period[i]] += moved + put
    launches_of_period[direction[i], period[i]]++
}

# In bytes of C values a token, as kernels are told: a block of a ViT reads and writes so many
function print_block(name, n) {
    printf "# %s %d: %s: forward %.1f, backward %.1f bytes a token and channel, in %d and %d launches\n",
        model, batch, name, of_period["forward", n] / unit, of_period["backward", 4 - n] / unit, launches_of_period["forward", n],
        launches_of_period["backward", 4 - n]
}

END {
    if (failed) { exit 1 }
    if (file != 1 && file != 4) { refuse("give one record or four") }
    find_middle()
    for (i = 1; i <= operations; i++) { add(i) }
    print_rows()
    if (file == 1) { exit }
    unit = batch * tokens * width
    printf "# %s %d: %.4f GFLOP an image\n", model, batch, flops / 1e9
    print_block("a block", 2)
    print_block("the last block", 3)
}
