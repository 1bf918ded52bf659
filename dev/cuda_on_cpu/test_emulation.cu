// Kernels as a trainer has them, beside plain loops in double; plain CUDA, for nvcc and for the emulation.
//   test_emulation_emu [DEFECT]     with one of the defects of test/defects.h planted
// Prints a checksum of the outputs that must not depend on the order of threads.
#include "test/arena.cuh"
#include "test/cublas_lt.cuh"
#include "test/intrinsics.cuh"
#include "test/early.cuh"
#include "test/layernorm.cuh"
#include "test/limits.cuh"
#include "test/matmul.cuh"
#include "test/rational.cuh"
#include "test/rewriting.cuh"
#include "test/softmax.cuh"
#include "test/streams.cuh"
#include "test/sums.cuh"
#include "test/tensor_cores.cuh"

int main(int argc, char** argv) {
    if (argc > 1 && !plant(argv[1])) {
        fprintf(stderr, "%s: no such defect\n", argv[1]);
        return 2;
    }
    test_rewriting();
    test_intrinsics();
    test_layernorm();
    test_softmax();
    test_matmul();
    test_limits();
    test_wmma();
    test_mma();
    test_copies();
    test_rational();
    test_sums();
    test_sums_in_order();
    test_cublas_lt();
    test_streams();
    test_default_stream();
    test_pinned_pages();
    test_graph();
    test_graph_parameter();
    test_arena();
    test_early();
    printf("checksum %016llx\n", (unsigned long long)output_checksum);
    return tests_finish();
}
