// Tensor cores: products of 16 x 16 blocks of bf16, accumulated in fp32. A warp holds a block in one of three layouts
// (PTX ISA, "Matrix fragments for mma.m16n8k16"); lane = 4 g + t:
//     accumulator  float[8]      element e is at row g + 8 (e / 2 % 2), column 2t + e % 2 + 8 (e / 4)
//     left         uint32_t[4]   pairs of columns; in the order of the accumulator's pairs, so that a product's result
//                                becomes the next product's left factor without leaving its registers
//     right        uint32_t[4]   pairs of rows
// A factor stored transposed, with its columns in memory's rows, is loaded by the functions named accordingly. Only the
// first functions contain PTX, each one instruction; the emulation has its own (dev/cuda_on_cpu).
#pragma once
#include "async_copy.cuh"

// d += a b for the left or right half of the columns, m16n8k16
__device__ inline void mma_bf16(float* d, const uint32_t* a, const uint32_t* b) {
#ifdef CUDA_EMU
    emu_mma_m16n8k16_bf16(d, a, b, d);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four 8 x 8 matrices from shared memory; lane 8 m + r gives the address of row r of matrix m
template <bool TRANSPOSED> __device__ inline void load_matrices(uint32_t* to, const bf16* row) {
#ifdef CUDA_EMU
    emu_ldmatrix<4, TRANSPOSED>(to, row);
#else
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    if (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(address) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(address) : "memory");
    }
#endif
}

__device__ inline int lane_id() { return threadIdx.x % 32; }
__device__ inline int block_row(int e) { return lane_id() / 4 + e / 2 % 2 * 8; }          // of accumulator element e
__device__ inline int block_column(int e) { return lane_id() % 4 * 2 + e % 2 + e / 4 * 8; }

__device__ inline void block_multiply(float* accumulator, const uint32_t* left, const uint32_t* right) {
    mma_bf16(accumulator, left, right);
    mma_bf16(accumulator + 4, left, right + 2);
}

__device__ inline void block_to_left(uint32_t* left, const float* accumulator) {
    #pragma unroll
    for (int i = 0; i < 4; i++) { left[i] = pack_bf16(accumulator[2 * i], accumulator[2 * i + 1]); }
}

// Factors from a 16 x 16 block in shared memory, rows ld elements apart, each row 16-byte aligned
__device__ inline void load_left(uint32_t* left, const bf16* block, int ld) {
    int lane = lane_id();
    load_matrices<false>(left, block + lane % 16 * ld + lane / 16 * 8);
}
__device__ inline void load_left_transposed(uint32_t* left, const bf16* block, int ld) {
    int lane = lane_id();
    load_matrices<true>(left, block + (lane % 8 + lane / 16 * 8) * ld + lane / 8 % 2 * 8);
}
__device__ inline void load_right(uint32_t* right, const bf16* block, int ld) {
    int lane = lane_id();
    load_matrices<true>(right, block + lane % 16 * ld + lane / 16 * 8);
}
__device__ inline void load_right_transposed(uint32_t* right, const bf16* block, int ld) {
    int lane = lane_id();
    load_matrices<false>(right, block + (lane % 8 + lane / 16 * 8) * ld + lane / 8 % 2 * 8);
}

// A left factor from global memory: columns first.. of 16 rows ld apart; zeros beyond rows and columns (both even)
__device__ inline void load_left_global(uint32_t* left, const bf16* matrix, size_t ld, int first, int rows,
                                        int columns) {
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = block_row(2 * i), column = first + block_column(2 * i);
        bool inside = row < rows && column < columns;
        left[i] = inside ? *(const uint32_t*)(matrix + row * ld + column) : 0;
    }
}

// Columns first.. of 16 rows ld apart = scale accumulator, up to rows and columns
__device__ inline void store_block(bf16* matrix, size_t ld, const float* accumulator, float scale, int first, int rows,
                                   int columns) {
    #pragma unroll
    for (int e = 0; e < 8; e += 2) {
        int row = block_row(e), column = first + block_column(e);
        if (row < rows && column < columns) {
            *(uint32_t*)(matrix + row * ld + column) = pack_bf16(scale * accumulator[e], scale * accumulator[e + 1]);
        }
    }
}

// The whole block of threads copies rows of global memory (columns a multiple of 8, 16-byte aligned) into shared
// memory: tile_rows rows, WIDTH columns, WIDTH + 8 apart, so that rows that a warp loads together are in different
// banks. Zeros beyond rows and columns. ASYNC: the copies are only started (async_copy.cuh).
template <int WIDTH, bool ASYNC = false>
__device__ void load_rows(bf16* tile, const bf16* matrix, size_t ld, int tile_rows, int rows, int columns) {
    constexpr int VECTORS = WIDTH / 8;
    for (int i = threadIdx.x; i < tile_rows * VECTORS; i += blockDim.x) {
        int row = i / VECTORS, column = i % VECTORS * 8;
        bool inside = row < rows && column < columns;
        bf16* to = tile + row * (WIDTH + 8) + column;
        if (ASYNC && inside) {
            copy_async((uint4*)to, (const uint4*)(matrix + row * ld + column));
        } else {
            uint4 value = !ASYNC && inside ? *(const uint4*)(matrix + row * ld + column) : make_uint4(0, 0, 0, 0);
            *(uint4*)to = value;
        }
    }
}
