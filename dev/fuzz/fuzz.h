// What the fuzz targets share. Each fuzz_NAME.c gives one input to the functions that read it in the programs:
// libFuzzer makes inputs (`make fuzz`), and dev/test/test_fuzz_corpus.c runs every file of corpus/NAME once in the
// ordinary tests.
//
// A bug is a crash, what AddressSanitizer or UBSan reports, a leak, more memory or seconds than run.sh allows, and a
// broken FUZZ_CHECK. The end of the process is one too: what a file can cause must come back as an Error, so that
// fail() is for the machine alone. An input that showed a bug goes into corpus/NAME.
#pragma once
#include "../test/test_files.h"

static inline void fuzz_check(int ok, const char* file, int line, const char* what) {
    if (ok) { return; }
    fprintf(stderr, "%s:%d: broken: %s\n", file, line, what);
    abort();
}
#define FUZZ_CHECK(ok, what) fuzz_check((ok) ? 1 : 0, __FILE__, __LINE__, what)

// Behind a target's void function(const uint8_t* bytes, size_t size)
#ifdef FUZZING
size_t LLVMFuzzerMutate(uint8_t* bytes, size_t size, size_t room);
#define FUZZ_TARGET(function) \
    int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) { function(bytes, size); return 0; }
#else
#define FUZZ_TARGET(function)
#endif
