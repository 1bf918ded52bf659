// An arbitrary PNG (fuzz_image.h).
#include "fuzz_image.h"
#ifdef HAVE_PNG
#include <zlib.h> // on which libpng is built
#endif

static void fuzz_png(const uint8_t* bytes, size_t size) { fuzz_image(bytes, size); }
FUZZ_TARGET(fuzz_png)

#if defined FUZZING && defined HAVE_PNG
// The checksum after each chunk is mostly corrected; otherwise the file would be refused at once.
size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t room, unsigned seed) {
    size = LLVMFuzzerMutate(bytes, size, room);
    for (size_t at = 8; seed % 16 != 0 && at + 12 <= size;) {
        uint32_t length = (uint32_t)bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
        if (length > size - at - 12) { break; }
        uint32_t sum = (uint32_t)crc32(0, bytes + at + 4, length + 4);
        for (int i = 0; i < 4; i++) { bytes[at + 8 + length + i] = (uint8_t)(sum >> (24 - 8 * i)); }
        at += 12 + length;
    }
    return size;
}
#endif
