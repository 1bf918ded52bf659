// CPU twins of the PTX instructions that a trainer wraps: ldmatrix and mma.m16n8k16 on bf16, cp.async. A wrapper has
// its asm line for nvcc and calls the twin under CUDA_EMU. Layouts: PTX ISA, "Matrix fragments for mma.m16n8k16",
// "ldmatrix".
#pragma once

namespace emu {

// Each 8×8 matrix of 16-bit elements has its row r in the registers of lanes 4r to 4r+3, two elements per lane. Lane 8m
// + r gives the address of row r of matrix m.
struct LoadMatrix {
    uint16_t row[8]; // the data at the address given by this lane
    uint32_t result[4];
};
template <int COUNT, bool TRANSPOSED> void ldmatrix_together(void** lanes, unsigned) {
    for (int i = 0; i < 32; i++) {
        for (int m = 0; m < COUNT; m++) {
            uint16_t pair[2];
            for (int k = 0; k < 2; k++) {
                int row = i / 4, column = i % 4 * 2 + k;
                if (TRANSPOSED) { std::swap(row, column); }
                pair[k] = ((LoadMatrix*)lanes[8 * m + row])->row[column];
            }
            ((LoadMatrix*)lanes[i])->result[m] = pair[0] | (uint32_t)pair[1] << 16;
        }
    }
}

struct MmaBf16 {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
    const float* c;
};
inline float bf16_half(uint32_t pair, int which) { return bits_as<float>(which ? pair & 0xffff0000u : pair << 16); }
inline void mma_bf16_together(void** lanes, unsigned) {
    if (!note_mma()) {
        for (int i = 0; i < 32; i++) { memset(((MmaBf16*)lanes[i])->d, 0, 4 * sizeof(float)); }
        return;
    }
    float A[16][16], B[16][8], D[16][8];
    for (int i = 0; i < 32; i++) {
        const MmaBf16& mine = *(MmaBf16*)lanes[i];
        int group = i / 4, pair = i % 4 * 2;
        for (int e = 0; e < 8; e++) {
            A[group + e / 2 % 2 * 8][pair + e % 2 + e / 4 * 8] = bf16_half(mine.a[e / 2], e % 2);
        }
        for (int e = 0; e < 4; e++) { B[pair + e % 2 + e / 2 * 8][group] = bf16_half(mine.b[e / 2], e % 2); }
        for (int e = 0; e < 4; e++) { D[group + e / 2 * 8][pair + e % 2] = mine.c[e]; }
    }
    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < 16; k++) {
            for (int j = 0; j < 8; j++) { D[i][j] += A[i][k] * B[k][j]; }
        }
    }
    for (int i = 0; i < 32; i++) {
        for (int e = 0; e < 4; e++) { ((MmaBf16*)lanes[i])->d[e] = D[i / 4 + e / 2 * 8][i % 4 * 2 + e % 2]; }
    }
}

}

// ldmatrix.sync.aligned.m8n8.xCOUNT{.trans}.shared.b16: result[COUNT], row = this lane's row address (16-byte aligned)
template <int COUNT, bool TRANSPOSED>
inline void emu_ldmatrix(uint32_t* result, const void* row, emu::Place place = {}) {
    emu::LoadMatrix mine{};
    if (emu::lane < 8 * COUNT) { // the addresses of the other lanes are ignored
        if ((uintptr_t)row % 16) { emu::fail("ldmatrix: row not 16-byte aligned, %s:%d", place.file, place.line); }
        memcpy(mine.row, row, sizeof mine.row);
    }
    emu::warp_op(emu::FULL_WARP, emu::ldmatrix_together<COUNT, TRANSPOSED>, &mine, "ldmatrix", place);
    for (int m = 0; m < COUNT; m++) { result[m] = mine.result[m]; }
}

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: d[4] = a[4] (16×16) · b[2] (16×8) + c[4]
inline void emu_mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, const float* c,
                                  emu::Place place = {}) {
    emu::MmaBf16 mine{d, a, b, c};
    emu::warp_op(emu::FULL_WARP, emu::mma_bf16_together, &mine, "mma.m16n8k16", place);
}

// cp.async of 4, 8 or 16 bytes, zeros unless inside: they arrive once the thread has waited. Until then the destination
// is NaN, which exposes copies started too early, over what others still read, as well as reads that are too early.
inline void emu_copy_async(void* shared, const void* global, size_t bytes, bool inside, emu::Place place = {}) {
    if ((uintptr_t)shared % bytes || (inside && (uintptr_t)global % bytes)) {
        emu::fail("cp.async: not %zu-byte aligned, %s:%d", bytes, place.file, place.line);
    }
    memset(shared, 0xff, bytes);
    emu::start_copy({shared, inside ? global : nullptr, bytes, 0});
}
inline void emu_copy_async_commit() { emu::commit_copies(); }
inline void emu_copy_async_wait(int groups) { // for all but the last `groups`
    for (emu::AsyncCopy copy; emu::finish_copy(&copy, groups);) {
        if (copy.global) { memcpy(copy.shared, copy.global, copy.bytes); } else { memset(copy.shared, 0, copy.bytes); }
    }
}
