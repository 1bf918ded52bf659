# From what cuobjdump -sass prints, with demangled names: the loops of kernels that multiply on tensor cores or store
# 16 bytes at a time. A line each, fields apart by |: kernel, number of the loop in the code's order, instructions, HMMA
# (m16n8k16 products), MUFU (special functions), LDSM (ldmatrix), LDG.128, STG.128. What a loop holds counts with it.
# A loop is from the target of a branch back to the branch.
function end_of_kernel(   i, j, loops, from, to, n) {
    for (i = 1; i <= count; i++) {
        if (target[i] == "" || !(target[i] in at) || at[target[i]] > i) { continue; }
        from = at[target[i]]
        for (name in total) { delete total[name] }
        for (j = from; j <= i; j++) { total[kind[j]]++ }
        if (total["HMMA"] || total["STG.128"]) {
            printf "%s|%d|%d|%d|%d|%d|%d|%d\n", kernel, ++loops, i - from + 1, total["HMMA"], total["MUFU"], total["LDSM"],
                   total["LDG.128"], total["STG.128"]
        }
    }
    count = 0
    delete at
    delete target
    delete kind
}
/Function :/ {
    end_of_kernel()
    kernel = $0
    sub(/.*Function : (void )?/, "", kernel)
}
/^ +\/\*[0-9a-f]+\*\/ .*;/ {
    address = $1
    gsub(/[\/*]/, "", address)
    sub(/^0+/, "", address)
    at[address == "" ? "0" : address] = ++count
    operation = $2 ~ /^@/ ? $3 : $2
    kind[count] = operation
    if (operation ~ /^BRA/ && match($0, /0x[0-9a-f]+ *;/)) {
        target[count] = substr($0, RSTART + 2, RLENGTH - 2)
        sub(/ *;/, "", target[count])
    }
    if (operation ~ /^HMMA/) { kind[count] = "HMMA" }
    if (operation ~ /^MUFU/) { kind[count] = "MUFU" }
    if (operation ~ /^LDSM/) { kind[count] = "LDSM" }
    if (operation ~ /^(LDG|STG)\..*128/) { kind[count] = substr(operation, 1, 3) ".128" }
}
END { end_of_kernel() }
