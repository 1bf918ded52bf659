// An arbitrary JPEG (fuzz_image.h).
#include "fuzz_image.h"

static void fuzz_jpeg(const uint8_t* bytes, size_t size) { fuzz_image(bytes, size); }
FUZZ_TARGET(fuzz_jpeg)
