// Replaces the toolkit's mma.h: nvcuda::wmma. A fragment is distributed over the 32 lanes as on the device (an
// accumulator has M·N/32 elements per lane), in an order of our own: code that relies on the device's unspecified order
// fails.
#pragma once
#include "cuda_emu.h"

namespace emu {
inline float element_to_float(float x) { return x; }
inline float element_to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float element_to_float(__half x) { return __half2float(x); }
inline void element_from_float(float& to, float x) { to = x; }
inline void element_from_float(__half& to, float x) { to = __float2half(x); }
}

namespace nvcuda {
namespace wmma {

struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision { struct tf32 {}; }

template <class T> struct Storage { typedef T type; };
template <> struct Storage<precision::tf32> { typedef float type; };

template <class Use, int M, int N, int K> struct Shape;
template <int M, int N, int K> struct Shape<matrix_a, M, N, K> { enum { rows = M, columns = K }; };
template <int M, int N, int K> struct Shape<matrix_b, M, N, K> { enum { rows = K, columns = N }; };
template <int M, int N, int K> struct Shape<accumulator, M, N, K> { enum { rows = M, columns = N }; };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    enum { rows = Shape<Use, M, N, K>::rows, columns = Shape<Use, M, N, K>::columns };
    enum { num_elements = rows * columns / 32, num_storage_elements = num_elements };
    typedef typename Storage<T>::type element_type;
    element_type x[num_elements];
    // the place of a lane's element e in the matrix; 7 is odd, so the lanes are only permuted
    static int position(int e, int lane) { return e * 32 + lane * 7 % 32; }
    static int row(int e, int lane) { return position(e, lane) / columns; }
    static int column(int e, int lane) { return position(e, lane) % columns; }
};

inline float __float_to_tf32(float x) { // to 10 bits of mantissa, ties away from zero like cvt.rna
    return emu::bits_as<float>((emu::bits_as<uint32_t>(x) + 0x1000) & ~0x1fffu);
}

template <class Use, int M, int N, int K, class T, class Layout, class V>
void fill_fragment(fragment<Use, M, N, K, T, Layout>& f, V value) {
    for (auto& element : f.x) { element = value; }
}

inline void check_alignment(const void* p, size_t row_bytes, emu::Place place) {
    if ((uintptr_t)p % 32 || row_bytes % 16) {
        emu::fail("wmma: the pointer must be 32-byte and the leading dimension 16-byte aligned, %s:%d", place.file,
                  place.line);
    }
}

template <class Fragment, class T>
void load(Fragment& f, const T* p, unsigned leading, bool row_wise, emu::Place place) {
    check_alignment(p, leading * sizeof(T), place);
    for (int e = 0; e < Fragment::num_elements; e++) {
        int r = Fragment::row(e, emu::lane), c = Fragment::column(e, emu::lane);
        f.x[e] = p[row_wise ? r * leading + c : c * leading + r];
    }
    emu::warp_op(emu::FULL_WARP, emu::nothing_together, nullptr, "wmma::load_matrix_sync", place);
}
template <class Use, int M, int N, int K, class T, class Layout, class P>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const P* p, unsigned leading, emu::Place place = {}) {
    load(f, p, leading, std::is_same<Layout, row_major>::value, place);
}
template <int M, int N, int K, class T, class P>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const P* p, unsigned leading, layout_t layout,
                      emu::Place place = {}) {
    load(f, p, leading, layout == mem_row_major, place);
}

template <int M, int N, int K, class T>
void store_matrix_sync(T* p, const fragment<accumulator, M, N, K, T>& f, unsigned leading, layout_t layout,
                       emu::Place place = {}) {
    check_alignment(p, leading * sizeof(T), place);
    for (int e = 0; e < f.num_elements; e++) {
        int r = f.row(e, emu::lane), c = f.column(e, emu::lane);
        p[layout == mem_row_major ? r * leading + c : c * leading + r] = f.x[e];
    }
    emu::warp_op(emu::FULL_WARP, emu::nothing_together, nullptr, "wmma::store_matrix_sync", place);
}

// The tile is assembled from all lanes' fragments, multiplied once, and split again.
template <class D, class A, class B, class C> struct Mma {
    D* d;
    const A* a;
    const B* b;
    const C* c;
    template <class Fragment, class Row> static void gather(const Fragment& f, int lane, Row* matrix) {
        for (int e = 0; e < f.num_elements; e++) {
            matrix[f.row(e, lane)][f.column(e, lane)] = emu::element_to_float(f.x[e]);
        }
    }
    static void together(void** lanes, unsigned) {
        float a[A::rows][A::columns], b[B::rows][B::columns], d[C::rows][C::columns];
        for (int i = 0; i < 32; i++) {
            const Mma& mine = *(Mma*)lanes[i];
            gather(*mine.a, i, a);
            gather(*mine.b, i, b);
            gather(*mine.c, i, d);
        }
        for (int i = 0; i < A::rows; i++) {
            for (int k = 0; k < A::columns; k++) {
                for (int j = 0; j < B::columns; j++) { d[i][j] += a[i][k] * b[k][j]; }
            }
        }
        for (int i = 0; i < 32; i++) {
            D& mine = *((Mma*)lanes[i])->d;
            for (int e = 0; e < D::num_elements; e++) {
                emu::element_from_float(mine.x[e], d[D::row(e, i)][D::column(e, i)]);
            }
        }
    }
};
template <class D, class A, class B, class C>
void mma_sync(D& d, const A& a, const B& b, const C& c, emu::Place place = {}) {
    Mma<D, A, B, C> mine{&d, &a, &b, &c};
    emu::warp_op(emu::FULL_WARP, Mma<D, A, B, C>::together, &mine, "wmma::mma_sync", place);
}

}
}
