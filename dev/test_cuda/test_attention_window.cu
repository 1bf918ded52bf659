// attention_window.cuh and patch_merge.cuh against attention_window.h and patch_merge.h: windows as they lie and of a
// rolled grid, of 1, 9, 16, 49, 64 and 81 tokens, heads of every width that has a form of its own, some heads of a
// layer, fewer sequences than slots and more, gradients that are added to.
#include "../../kernels/attention_window.cuh"
#include "../../kernels/patch_merge.cuh"
#include "cpu_windows.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 6e-7 4.5e-3, the table's gradient 4e-7 4e-3
static const Limits VALUES = {2e-6, 1e-2}, SUMS = {2e-6, 1e-2};

template <class T> static void test_problem(int B, Windows w, int heads, int H, int D) {
    int C = heads * D, T_ = w.grid * w.grid;
    size_t n = (size_t)B * T_ * C, rows = (size_t)B * T_ * H, offsets = (size_t)window_offsets(w) * heads;
    Floats qkv = random_values<T>(3 * n), dout = random_values<T>(n), table = random_values<float>(offsets);
    Floats out(n), lse(rows), dqkv(3 * n), dtable = random_values<float>(offsets);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(out), d_dqkv(dqkv);
    Device<float> d_table(table), d_lse(rows), d_dtable(dtable), scratch(window_attention_scratch(B, w, H));
    cpu_window_attention(out.data(), lse.data(), dqkv.data(), dtable.data(), qkv.data(), table.data(), dout.data(), B,
                         w, C, H, D);
    window_attention_forward<T>(d_out, d_lse, d_qkv, d_table, B, w, C, H, D, 0);
    window_attention_backward<T>(d_dqkv, d_dtable, d_dout, d_out, d_lse, d_qkv, d_table, scratch, B, w, C, H, D, 0);
    check<T>("window_attention_forward", d_out, out, VALUES);
    check<T>("lse", d_lse, lse, VALUES);
    check<T>("window_attention_backward", d_dqkv, dqkv, VALUES);
    check<T>("dtable", d_dtable, dtable, SUMS);
}

template <class T> static void test_merge(int B, int grid, int C) {
    size_t n = (size_t)B * grid * grid * C;
    Floats x = random_values<T>(n), dout = random_values<T>(n), out(n), dx(n);
    Device<T> d_x(x), d_dout(dout), d_out(n), d_dx(n);
    cpu_patch_merge(out.data(), dx.data(), x.data(), dout.data(), B, grid, C);
    patch_merge_forward<T>(d_out, d_x, B, grid, C, 0);
    patch_merge_backward<T>(d_dx, d_dout, B, grid, C, 0);
    check<T>("patch_merge_forward", d_out, out, {0, 0});
    check<T>("patch_merge_backward", d_dx, dx, {0, 0});
}

template <class T> static void test_storage() {
    test_problem<T>(1, {2, 1, 0}, 1, 1, 8);
    test_problem<T>(3, {6, 3, 1}, 2, 2, 8);
    test_problem<T>(2, {8, 4, 2}, 1, 1, 5);
    test_problem<T>(2, {8, 4, 0}, 3, 2, 16);
    test_problem<T>(1, {14, 7, 3}, 2, 2, 32);
    test_problem<T>(5, {7, 7, 0}, 1, 1, 40);
    test_problem<T>(1, {16, 8, 4}, 1, 1, 64);
    test_problem<T>(1, {9, 9, 0}, 1, 1, 32);
    test_merge<T>(3, 4, 8);
    test_merge<T>(2, 6, 5);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
