# From what cuobjdump -sass prints, with demangled names, for sm_90: kernels that touch device memory in front of their
# wait for the kernel in front (ACQBULK), a line each. The source does not, but loads of what is constant to the kernel
# are the compiler's to move.
/Function :/ {
    kernel = $0
    sub(/.*Function : (void )?/, "", kernel)
    touched = ""
}
/^ +\/\*[0-9a-f]+\*\/ .*;/ {
    operation = $2 ~ /^@/ ? $3 : $2
    if (touched == "" && operation ~ /^(LD|ST|LDG|STG|LDGSTS|ATOM|ATOMG|RED|REDG|UBLKCP)(\.|;|$)/) { touched = operation }
    if (operation ~ /^ACQBULK/ && touched != "") { print kernel " by " touched }
}
