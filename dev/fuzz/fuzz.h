// What the fuzz targets share. Each fuzz_NAME.c passes one input to the functions that read it in the programs:
// libFuzzer generates inputs (`make fuzz`), and dev/test/test_fuzz_corpus.c runs every file of corpus/NAME once in the
// ordinary tests.
//
// A bug is a crash, a report of AddressSanitizer or UBSan, a leak, more memory or time than run.sh allows, or a failed
// FUZZ_CHECK. So is the end of the process: what a file can cause must be returned as an Error; fail() is for the
// machine only. An input that showed a bug goes into corpus/NAME.
#pragma once
#include "../test/test_files.h"

static inline void fuzz_check(int ok, const char* file, int line, const char* what) {
    if (ok) { return; }
    fprintf(stderr, "%s:%d: broken: %s\n", file, line, what);
    abort();
}
#define FUZZ_CHECK(ok, what) fuzz_check((ok) ? 1 : 0, __FILE__, __LINE__, what)

// After a target's void function(const uint8_t* bytes, size_t size)
#ifdef FUZZING
size_t LLVMFuzzerMutate(uint8_t* bytes, size_t size, size_t room);
#define FUZZ_TARGET(function) \
    int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) { function(bytes, size); return 0; }
#else
#define FUZZ_TARGET(function)
#endif
