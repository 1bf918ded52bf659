// EMU_RECORD=FILE: one line for everything that the device does, in order, with fields separated by tabs:
//   launch   kernel  file:line  blocks  threads of a block  shared bytes  bytes read  bytes written  mma.m16n8k16
//            1 if launched early (include/emu/early.h)
//   product  m  n  k  batch  bytes of an element of A and B, of D  1 if D is added to  bytes read  bytes written
//   copy     bytes              memset   bytes
//   note     the text passed to emu_note()
// A kernel's bytes are counted in the bytes build, and are - in others; under EMU_DRY=1 they are 0, as is mma.
#include "internal.h"
#include "matmul.h"
#include <stdarg.h>
#include <stdlib.h>

namespace emu {

static FILE* file;
static size_t mma_count; // of the running launch

__attribute__((constructor)) static void open_record() {
    const char* path = getenv("EMU_RECORD");
    if (!path || !*path) { return; }
    file = fopen(path, "w");
    if (!file) { fail("EMU_RECORD=%s cannot be written", path); }
}

bool note_mma() {
    mma_count++;
    return settings.products;
}

void record_launch(const Launch& l) {
    const Traffic* traffic = launch_traffic();
    size_t blocks = (size_t)l.grid.x * l.grid.y * l.grid.z;
    if (file) {
        fprintf(file, "launch\t%s\t%s:%d\t%zu\t%u\t%zu\t", kernel_name(l).c_str(), l.file, l.line, blocks,
                l.block.x * l.block.y * l.block.z, l.shared);
        if (traffic) {
            fprintf(file, "%zu\t%zu\t%zu\t%d\n", traffic->read, traffic->written, mma_count, l.early);
        } else {
            fprintf(file, "-\t-\t%zu\t%d\n", mma_count, l.early);
        }
    }
    mma_count = 0;
}

// Counts each operand once, as if nothing were read again.
void record_product(const Matmul& p) {
    if (!file) { return; }
    size_t inputs = element_size(p.a.type), output = element_size(p.d.type), results = (size_t)p.m * p.n * p.batch;
    size_t read = (size_t)(p.m + p.n) * p.k * p.batch * inputs + (p.beta != 0 ? results * output : 0);
    const Epilogue& e = p.epilogue;
    if (adds_bias(e.kind)) { read += p.m * element_size(e.bias.type); }
    if (reads_aux(e.kind)) { read += results * element_size(e.aux.type); }
    size_t written = results * output + (writes_aux(e.kind) ? results * element_size(e.aux.type) : 0);
    fprintf(file, "product\t%lld\t%lld\t%lld\t%d\t%zu\t%zu\t%d\t%zu\t%zu\n", (long long)p.m, (long long)p.n,
            (long long)p.k, p.batch, inputs, output, p.beta != 0, read, written);
}

void record_copy(size_t bytes) {
    if (file) { fprintf(file, "copy\t%zu\n", bytes); }
}
void record_memset(size_t bytes) {
    if (file) { fprintf(file, "memset\t%zu\n", bytes); }
}

}

void emu_note(const char* format, ...) {
    using namespace emu;
    if (!file) { return; }
    va_list arguments;
    va_start(arguments, format);
    fprintf(file, "note\t");
    vfprintf(file, format, arguments);
    fprintf(file, "\n");
    va_end(arguments);
}
