// Matmuls on tensor cores: wmma with tiles of 64×64, and a warp's ldmatrix and mma.m16n8k16; copies by cp.async.
#pragma once
#include "support.cuh"
#include <mma.h>

// out[M,N] = a[M,K] w[N,K]ᵀ / 2 + bias, four warps, each 32×32 of the block's 64×64; K a multiple of 32
__global__ void __launch_bounds__(128)
matmul_wmma_kernel(bf16* out, const bf16* a, const bf16* w, const float* bias, int M, int N, int K) {
    using namespace nvcuda;
    __shared__ __align__(32) bf16 a_tile[64][32 + 16];
    __shared__ __align__(32) bf16 w_tile[64][32 + 16];
    __shared__ __align__(32) float of_warp[4][16][16];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warp_row = warp / 2, warp_column = warp % 2;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum[2][2];
    for (int i = 0; i < 4; i++) { wmma::fill_fragment(sum[i / 2][i % 2], 0.0f); }
    for (int k0 = 0; k0 < K; k0 += 32) {
        for (int i = threadIdx.x; i < 64 * 4; i += 128) { // loads of 16 bytes
            int r = i / 4, c = i % 4 * 8, a_row = blockIdx.y * 64 + r, w_row = blockIdx.x * 64 + r;
            int4 zero = make_int4(0, 0, 0, 0);
            *(int4*)&a_tile[r][c] = a_row < M ? *(const int4*)(a + (size_t)a_row * K + k0 + c) : zero;
            *(int4*)&w_tile[r][c] = w_row < N ? *(const int4*)(w + (size_t)w_row * K + k0 + c) : zero;
        }
        __syncthreads();
        for (int kk = 0; kk < 32; kk += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> fa[2];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::col_major> fb[2];
            for (int i = 0; i < 2; i++) {
                wmma::load_matrix_sync(fa[i], &a_tile[warp_row * 32 + i * 16][kk], 48);
                wmma::load_matrix_sync(fb[i], &w_tile[warp_column * 32 + i * 16][kk], 48);
            }
            for (int i = 0; i < 4; i++) {
                wmma::mma_sync(sum[i / 2][i % 2], fa[i / 2], fb[i % 2], sum[i / 2][i % 2]);
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) {
        auto& fragment = sum[i / 2][i % 2];
        for (int e = 0; e < fragment.num_elements; e++) { fragment.x[e] *= 0.5f; }
        wmma::store_matrix_sync(&of_warp[warp][0][0], fragment, 16, wmma::mem_row_major);
        if (!PLANTED(no_syncwarp)) { __syncwarp(); }
        for (int e = lane; e < 256; e += 32) {
            int r = blockIdx.y * 64 + warp_row * 32 + i / 2 * 16 + e / 16;
            int c = blockIdx.x * 64 + warp_column * 32 + i % 2 * 16 + e % 16;
            if (r < M && c < N) { out[(size_t)r * N + c] = __float2bfloat16(of_warp[warp][e / 16][e % 16] + bias[c]); }
        }
        __syncwarp();
    }
}

static void test_wmma() {
    int M = 80, N = 96, K = 64;
    auto a = random_values<bf16>(M * K), w = random_values<bf16>(N * K);
    auto bias = random_values<float>(N);
    std::vector<double> want(M * N);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++) { sum += (double)to_float(a[i * K + k]) * to_float(w[j * K + k]); }
            want[i * N + j] = sum / 2 + bias[j];
        }
    }
    Device<bf16> da(a), dw(w), out(M * N);
    Device<float> db(bias);
    matmul_wmma_kernel<<<dim3(CEIL_DIV(N, 64), CEIL_DIV(M, 64)), 128>>>(out.data, da.data, dw.data, db.data, M, N, K);
    check_output("matmul by wmma", out, want, 4e-3); // 2^-8 at most, the rounding of bf16; 2.5e-3
}

// The wrappers that a project writes around PTX: one line of asm, and the emulation's twin.
template <int COUNT, bool TRANSPOSED> __device__ inline void ldmatrix(uint32_t* r, const void* row) {
#ifdef CUDA_EMU
    emu_ldmatrix<COUNT, TRANSPOSED>(r, row);
#else
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    if constexpr (COUNT == 4 && !TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
    } else {
        static_assert(COUNT == 2 && TRANSPOSED, "not written");
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1]) : "r"(address));
    }
#endif
}
__device__ inline void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, const float* c) {
#ifdef CUDA_EMU
    emu_mma_m16n8k16_bf16(d, a, b, c);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]),
                   "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#endif
}

// One warp: d[16,8] = a[16,32] b[32,8]
__global__ void mma_kernel(float* d, const bf16* a, const bf16* b) {
    __shared__ __align__(16) bf16 a_tile[16][32 + 8];
    __shared__ __align__(16) bf16 b_tile[32][8];
    int lane = threadIdx.x;
    for (int i = lane; i < 16 * 32; i += 32) { a_tile[i / 32][i % 32] = a[i]; }
    for (int i = lane; i < 32 * 8; i += 32) { b_tile[i / 8][i % 8] = b[i]; }
    if (!PLANTED(no_syncwarp_before_ldmatrix)) { __syncwarp(); }
    float sum[4] = {0, 0, 0, 0};
    for (int k0 = 0; k0 < 32; k0 += 16) {
        uint32_t fa[4], fb[2];
        ldmatrix<4, false>(fa, &a_tile[lane % 16][k0 + lane / 16 * 8]);
        ldmatrix<2, true>(fb, &b_tile[k0 + lane % 16][0]);
        mma_m16n8k16(sum, fa, fb, sum);
    }
    for (int e = 0; e < 4; e++) { d[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = sum[e]; }
}

static void test_mma() {
    auto a = random_values<bf16>(16 * 32), b = random_values<bf16>(32 * 8);
    std::vector<double> want(16 * 8);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++) {
            double& sum = want[i * 8 + j];
            for (int k = 0; k < 32; k++) { sum += (double)to_float(a[i * 32 + k]) * to_float(b[k * 8 + j]); }
        }
    }
    Device<bf16> da(a), db(b);
    Device<float> d(16 * 8);
    mma_kernel<<<1, 32>>>(d.data, da.data, db.data);
    check_output("ldmatrix and mma.m16n8k16", d, want, 1e-6); // 6e-8
}

__device__ inline void copy_async(void* to, const void* from) {
#ifdef CUDA_EMU
    emu_copy_async(to, from, 16, true);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 : : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)) : "memory");
#endif
}
__device__ inline void copy_async_commit() {
#ifdef CUDA_EMU
    emu_copy_async_commit();
#else
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}
__device__ inline void copy_async_wait_but_one() {
#ifdef CUDA_EMU
    emu_copy_async_wait(1);
#else
    asm volatile("cp.async.wait_group 1;" : : : "memory");
#endif
}

// out[i] = Σ_t x[t, 63 - i, 0]: 64 threads, tiles (64,4) in three buffers, two of them on their way
__global__ void copies_kernel(float* out, const float* x, int tiles) {
    __shared__ __align__(16) float buffer[3][64][4];
    int i = threadIdx.x;
    float sum = 0;
    for (int t = -2; t < tiles; t++) {
        if (t >= 0 && !PLANTED(no_wait_for_copies)) { copy_async_wait_but_one(); }
        if (!PLANTED(no_barrier_before_copy)) { __syncthreads(); }
        if (t + 2 < tiles) { copy_async(buffer[(t + 2) % 3][i], x + ((size_t)(t + 2) * 64 + i) * 4); }
        copy_async_commit();
        if (PLANTED(no_barrier_before_copy)) { __syncthreads(); }
        if (t >= 0) { sum += buffer[t % 3][63 - i][0]; }
    }
    out[i] = sum;
}

static void test_copies() {
    int tiles = 7;
    auto x = random_values<float>(tiles * 64 * 4);
    std::vector<double> want(64);
    for (int t = 0; t < tiles; t++) {
        for (int i = 0; i < 64; i++) { want[i] += x[(t * 64 + 63 - i) * 4]; }
    }
    Device<float> dx(x), out(64);
    copies_kernel<<<1, 64>>>(out.data, dx.data, tiles);
    check_output("cp.async", out, want, 1e-6);
}
