#!/usr/bin/env bash
# Finds what this machine can build with, by compiling small programs:  probe.sh CONFIG.mk
# Reads CC, ARCH, OPENMP, BLAS, DNNL, CJSON, ZLIB, LIBCRYPTO, JPEG, PNG, ARCHIVE, MPI, NCCL, NCCL_HOME, CUDA (its
# folder), PROTOBUF_C and EXTRA_CFLAGS from the environment and writes make variables: OPTIMIZE and DEBUG_FLAGS (a build
# uses one of them), FOUND_FLAGS, FOUND_LIBS, OPENBLAS_FLAGS, OPENBLAS_LIBS (for programs that compare with it),
# ARCHIVE_FLAGS, ARCHIVE_LIBS (to read archives), MPI_FLAGS, MPI_LIBS (for the CPU trainer), NCCL_FLAGS, NCCL_LIBS (for
# the GPU trainer), PROTOBUF_C_FLAGS, PROTOBUF_C_LIBS (to write ONNX files), and for each piece NAME_NOTE, the line that
# `make` prints. A file in which nothing is missing is kept until one of these settings, or this script, changes.
set -u
config=$1
key="# $(cksum <"$0") CC=$CC ARCH=$ARCH OPENMP=$OPENMP BLAS=$BLAS DNNL=$DNNL CJSON=$CJSON ZLIB=$ZLIB LIBCRYPTO=$LIBCRYPTO JPEG=$JPEG PNG=$PNG ARCHIVE=$ARCHIVE MPI=$MPI NCCL=$NCCL ${NCCL_HOME:-} $CUDA PROTOBUF_C=$PROTOBUF_C $EXTRA_CFLAGS"
if [ "$(head -n 1 "$config" 2>/dev/null)" = "$key" ] && ! grep -q '✗' "$config"; then exit 0; fi

mkdir -p "$(dirname "$config")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="" libs=""

# compiles PROGRAM FLAGS...: leaves $work/probe
compiles() {
    local program=$1
    shift
    # shellcheck disable=SC2086
    printf '%s\n' "$program" | $CC -x c - -o "$work/probe" "$@" 2>/dev/null
}

note() { printf '%s_NOTE := %s\n' "$1" "$2" >>"$work/config.mk"; }

# missing NAME SETTING HINT: an error if the setting asks for this piece, a line with ✗ if it is auto
missing() {
    note "$1" "✗ $3"
    # shellcheck disable=SC2016
    if [ "$2" != auto ]; then printf '$(error %s=%s, but it is not there: %s)\n' "$1" "$2" "$3" >>"$work/config.mk"; fi
}

# library NAME SETTING PKG-CONFIG-NAME PLAIN-LIBS MACRO HINT PROGRAM
library() {
    local name=$1 setting=$2 package=$3 plain=$4 macro=$5 hint=$6 program=$7 cflags from_package
    if [ "$setting" = none ]; then note "$name" "– left out"; return; fi
    cflags=$(pkg-config --cflags "$package" 2>/dev/null)
    from_package=$(pkg-config --libs "$package" 2>/dev/null)
    # shellcheck disable=SC2086
    if [ -n "$from_package" ] && compiles "$program" $cflags $from_package; then
        flags="$flags -D$macro $cflags" libs="$libs $from_package"
    elif compiles "$program" $plain; then
        flags="$flags -D$macro" libs="$libs $plain"
    else
        missing "$name" "$setting" "$hint"
        return
    fi
    note "$name" "✓ $("$work/probe")"
}

printf '%s\n' "$key" >"$work/config.mk"

if compiles 'int main(void) { return 0; }' -std=gnu11 -O3 "-march=$ARCH"; then
    note COMPILER "✓ $($CC --version | head -n 1), -march=$ARCH"
else
    note COMPILER "✗ $CC builds nothing with -march=$ARCH: install gcc, or give CC= and ARCH="
fi

# gcc's -O3 duplicates code that is not hot: three times the size, and no faster. These are the optimisations beyond -O2
# that the loops of kernels/ need.
optimize="-O2 -ftree-vectorize -fvect-cost-model=dynamic -funswitch-loops -fno-gcse -fno-tree-vrp"
optimize="$optimize --param max-inline-insns-single=20"
# shellcheck disable=SC2086
compiles 'int main(void) { return 0; }' -Werror $optimize || optimize=-O3
# For a debugger. A mark for every statement takes gcc time, and says little where variables are not tracked.
debug="-Og -g -fno-var-tracking" no_marks=-gno-statement-frontiers
# shellcheck disable=SC2086
compiles 'int main(void) { return 0; }' -Werror $debug $no_marks && debug="$debug $no_marks"
# Blocks on a stack that is full must not reach beyond its guard page.
stack=-fstack-clash-protection
compiles 'int main(void) { return 0; }' -Werror $stack || stack=""

if [ "$OPENMP" = none ]; then
    flags=-fopenmp-simd
    note OPENMP "– left out: one thread"
elif compiles '#include <omp.h>
    int main(void) { return omp_get_max_threads() < 1; }' -fopenmp; then
    flags=-fopenmp
    note OPENMP "✓"
else
    flags=-fopenmp-simd
    missing OPENMP "$OPENMP" "one thread only: gcc has it built in, clang needs libomp-dev"
fi

before_flags=$flags before_libs=$libs
library BLAS "$BLAS" openblas -lopenblas HAVE_OPENBLAS "own loops, slower: install libopenblas-openmp-dev" '
    #include <cblas.h>
    #include <stdio.h>
    int main(void) {
        const char* flavours[] = {"serial", "pthread", "openmp"};
        float one = 1, out = 0;
        openblas_set_num_threads(1);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 1, 1, 1, 1, &one, 1, &one, 1, 0, &out, 1);
        printf("%s (%s)", openblas_get_config(), flavours[openblas_get_parallel() % 3]);
        return out != 1;
    }'
openblas_flags="" openblas_libs=""
# shellcheck disable=SC2086
if $CC "-march=$ARCH" $EXTRA_CFLAGS -dM -E -x c /dev/null 2>/dev/null | grep -q '__AVX__'; then # matmul.h's own products
    openblas_flags=${flags#"$before_flags"} openblas_libs=${libs#"$before_libs"}
    flags=$before_flags libs=$before_libs
fi
dnnl_program='
    #include <oneapi/dnnl/dnnl.h>
    #include <stdio.h>
    int main(void) {
        const dnnl_version_t* v = dnnl_version();
        return printf("%d.%d.%d", v->major, v->minor, v->patch) < 0;
    }'
if [ "$DNNL" = auto ] && ! grep -qwsE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then
    note DNNL "– not used: it is for --precision bf16 on processors with avx512_bf16 or AMX"
elif [ "$DNNL" != none ] && [ "${flags%% *}" != -fopenmp ]; then
    missing DNNL "$DNNL" "oneDNN would start threads of its own where OpenMP is missing"
else
    library DNNL "$DNNL" dnnl -ldnnl HAVE_DNNL "bf16 products in our own loops, slower: install libdnnl-dev" "$dnnl_program"
fi
library CJSON "$CJSON" libcjson -lcjson HAVE_CJSON "no reading of safetensors: install libcjson-dev" '
    #include <cjson/cJSON.h>
    #include <stdio.h>
    int main(void) { return puts(cJSON_Version()) < 0; }'
library ZLIB "$ZLIB" zlib -lz HAVE_ZLIB "no reading of .gz data sets: install zlib1g-dev" '
    #include <zlib.h>
    #include <stdio.h>
    int main(void) { return puts(zlibVersion()) < 0; }'
library LIBCRYPTO "$LIBCRYPTO" libcrypto -lcrypto HAVE_LIBCRYPTO "no check of downloaded files: install libssl-dev" '
    #include <openssl/crypto.h>
    #include <openssl/evp.h>
    #include <stdio.h>
    int main(void) { return puts(OpenSSL_version(OPENSSL_VERSION)) < 0 || !EVP_sha256(); }'
library JPEG "$JPEG" libjpeg -ljpeg HAVE_JPEG "no reading of JPEG files: install libjpeg-dev (libjpeg-turbo)" '
    #include <stdio.h>
    #include <jpeglib.h>
    #define TEXT(x) #x
    #define VALUE(x) TEXT(x)
    int main(void) {
        static struct jpeg_decompress_struct d;
        JDIMENSION x = 0, width = 8;
        if (d.scale_num == 12345) { jpeg_crop_scanline(&d, &x, &width); jpeg_skip_scanlines(&d, 1); }
        return puts("libjpeg-turbo " VALUE(LIBJPEG_TURBO_VERSION)) < 0;
    }'
library PNG "$PNG" libpng -lpng HAVE_PNG "no reading or writing of PNG files: install libpng-dev" '
    #include <png.h>
    #include <stdio.h>
    int main(void) { return puts(png_get_libpng_ver(NULL)) < 0; }'
before_flags=$flags before_libs=$libs
library ARCHIVE "$ARCHIVE" libarchive -larchive HAVE_ARCHIVE "no reading of archives: install libarchive-dev" '
    #include <archive.h>
    #include <stdio.h>
    int main(void) { return puts(archive_version_string()) < 0; }'
archive_flags=${flags#"$before_flags"} archive_libs=${libs#"$before_libs"}
flags=$before_flags libs=$before_libs

# Any MPI: the one of pkg-config, Open MPI before MPICH, else what mpicc adds; MPI=mpich: only that one
mpi_package=ompi-c mpi_plain=$(mpicc --showme 2>/dev/null | cut -d ' ' -f 2-)
if ! pkg-config --exists ompi-c 2>/dev/null; then mpi_package=mpich; fi
if [ "$MPI" = mpich ]; then mpi_package=mpich mpi_plain=; fi
before_flags=$flags before_libs=$libs
library MPI "$MPI" $mpi_package "$mpi_plain" HAVE_MPI \
    "one process: install libopenmpi-dev for several that train one model" '
    #include <mpi.h>
    #include <stdio.h>
    #include <string.h>
    int main(void) {
        static char text[MPI_MAX_LIBRARY_VERSION_STRING];
        int length;
        if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) { return 1; }
        text[strcspn(text, ",\n")] = 0;
        return puts(text) < 0;
    }'
mpi_flags=${flags#"$before_flags"} mpi_libs=${libs#"$before_libs"}
flags=$before_flags libs=$before_libs

# Messages between GPUs: from NCCL_HOME, or beside CUDA, or where the system has libraries. PyPI's package has no
# libnccl.so.
nccl_folder=${NCCL_HOME:-$CUDA}
nccl_libs="${NCCL_HOME:+-I$NCCL_HOME/include }-I$CUDA/include"
for folder in "$nccl_folder/lib64" "$nccl_folder/lib"; do
    name=nccl
    if [ ! -e "$folder/libnccl.so" ]; then name=:libnccl.so.2; fi
    if [ -e "$folder/libnccl.so.2" ]; then nccl_libs="$nccl_libs -L$folder -Wl,-rpath,$folder -l$name"; break; fi
done
case $nccl_libs in *-l*) ;; *) nccl_libs="$nccl_libs -lnccl" ;; esac
before_flags=$flags before_libs=$libs
if [ -z "$CUDA" ] && [ "$NCCL" = auto ]; then
    note NCCL "– not used: it is for several GPUs, and there is no CUDA"
else
    library NCCL "$NCCL" - "$nccl_libs" HAVE_NCCL \
        "one GPU: install libnccl-dev (2.18 or later), or set NCCL_HOME, for several that train one model" '
        #include <nccl.h>
        #include <stdio.h>
        #if NCCL_VERSION_CODE < 21800
        #error too old
        #endif
        int main(void) {
            int v = 0;
            return ncclGetVersion(&v) != ncclSuccess || printf("%d.%d.%d", v / 10000, v / 100 % 100, v % 100) < 0;
        }'
fi
nccl_flags=${flags#"$before_flags"} nccl_libs=${libs#"$before_libs"}
flags=$before_flags libs=$before_libs

# The library, and the compiler of schemas
before_flags=$flags before_libs=$libs
protobuf_hint="no --export to ONNX: install libprotobuf-c-dev and protobuf-c-compiler"
if [ "$PROTOBUF_C" != none ] && ! command -v protoc-c >/dev/null; then
    missing PROTOBUF_C "$PROTOBUF_C" "$protobuf_hint"
else
    library PROTOBUF_C "$PROTOBUF_C" libprotobuf-c -lprotobuf-c HAVE_PROTOBUF_C "$protobuf_hint" '
    #include <protobuf-c/protobuf-c.h>
    #include <stdio.h>
    int main(void) { return puts(protobuf_c_version()) < 0; }'
fi
protobuf_flags=${flags#"$before_flags"} protobuf_libs=${libs#"$before_libs"}
flags=$before_flags libs=$before_libs

printf '%s := %s\n' OPTIMIZE "$optimize" DEBUG_FLAGS "$debug" FOUND_FLAGS "$flags $stack" FOUND_LIBS "$libs" \
    OPENBLAS_FLAGS "$openblas_flags" OPENBLAS_LIBS "$openblas_libs" \
    ARCHIVE_FLAGS "$archive_flags" ARCHIVE_LIBS "$archive_libs" MPI_FLAGS "$mpi_flags" MPI_LIBS "$mpi_libs" \
    NCCL_FLAGS "$nccl_flags" NCCL_LIBS "$nccl_libs" \
    PROTOBUF_C_FLAGS "$protobuf_flags" PROTOBUF_C_LIBS "$protobuf_libs" >>"$work/config.mk"
cmp -s "$work/config.mk" "$config" || cp "$work/config.mk" "$config"
