// patch_embed.cuh against patch_embed.h: patches of 4, 5, 8 and 16, with a class token and without; the gradients of bias,
// class token and positions.
#include "../../kernels/patch_embed.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 0 3.2e-3 (rounding to bf16 alone: 2^-8 of the value), sums 3.8e-7 9.1e-8
static const Limits VALUES = {1e-6, 4e-3}, SUMS = {2e-6, 2e-6};

template <class T> static void test_patches(int B, int S, int P) {
    size_t n = (size_t)B * 3 * S * S;
    Floats images = random_values<float>(n), patches(n);
    Device<float> d_images(images);
    Device<T> d_patches(n);
    cpu.extract_patches(patches.data(), images.data(), B, S, P);
    extract_patches<T, float>(d_patches, d_images, B, S, P, 0);
    check<T>("extract_patches", d_patches, patches, {0, 4e-3});
}

template <class G, class R, class T> static void test_tokens(int B, int S, int P, int C, bool has_cls) {
    int tokens = S / P * (S / P), prefix = has_cls, N = tokens + prefix, K = 3 * P * P;
    Floats x = random_values<T>((size_t)B * tokens * C), cls = random_values<float>(C), out((size_t)B * N * C);
    Floats pos = random_values<float>((size_t)N * C), dout = random_values<T>(out.size());
    Floats dcls = random_values<float>(C), dpos = random_values<float>(pos.size()), dbias = random_values<float>(C);
    Floats dtokens(x.size()), dweight((size_t)C * K), patches((size_t)B * tokens * K);
    Device<T> d_x(x), d_dtokens(x.size());
    Device<R> d_out(out.size());
    Device<G> d_dout(dout);
    dout = d_dout.host(); // what both storages hold
    Device<float> d_cls(cls), d_pos(pos), d_dcls(dcls), d_dpos(dpos), d_dbias(dbias);
    Device<float> scratch(embed_tokens_scratch(B, N, C)), bias_scratch(bias_backward_scratch(B * tokens, C));
    for (size_t i = 0; i < out.size(); i++) {
        int c = (int)(i % C), row = (int)(i / C), n = row % N, b = row / N;
        size_t from = ((size_t)b * tokens + n - prefix) * C + c;
        out[i] = (n < prefix ? cls[c] : x[from]) + pos[(size_t)n * C + c];
        if (n >= prefix) { dtokens[from] = dout[i]; }
    }
    embed_tokens_forward<R, T>(d_out, d_x, has_cls ? d_cls.data : nullptr, d_pos, B, N, C, 0);
    check<R>("embed_tokens_forward", d_out, out, VALUES);

    Floats cpu_scratch(cpu.patch_embed_scratch(B, S, P, C));
    cpu.patch_embed_backward(dweight.data(), dbias.data(), has_cls ? dcls.data() : nullptr, dpos.data(), dout.data(),
                             patches.data(), cpu_scratch.data(), B, S, P, C);
    embed_tokens_backward<G, T>(d_dtokens, has_cls ? d_dcls.data : nullptr, d_dpos, d_dout, scratch, B, N, C, 0);
    bias_backward<T>(d_dbias, d_dtokens, C, bias_scratch, B * tokens, C, 0);
    check<T>("embed_tokens dtokens", d_dtokens, dtokens, {0, 0});
    check<T>("embed_tokens dcls_token", d_dcls, dcls, SUMS);
    check<T>("embed_tokens dpos_embed", d_dpos, dpos, SUMS);
    check<T>("bias_backward", d_dbias, dbias, SUMS);
}

template <class G, class R> static void test_prefix(int B, int N, int C, bool has_cls, int registers) {
    int P = has_cls + registers;
    size_t n = (size_t)B * N * C, own = (size_t)B * (N - P) * C;
    Floats tokens = random_values<R>(own), cls = random_values<float>(C), reg = random_values<float>(registers * C + 1);
    Floats dx = random_values<G>(n), x(n), dtokens(own), dcls(C, 0.5f), dreg(registers * C + 1, 0.5f);
    Device<R> d_tokens(tokens), d_x(n);
    Device<G> d_dx(dx), d_dtokens(own);
    Device<float> d_cls(cls), d_reg(reg), d_dcls(dcls), d_dreg(dreg), scratch(prefix_scratch(B, P, C));
    cpu.prefix_forward(x.data(), tokens.data(), has_cls ? cls.data() : nullptr, registers ? reg.data() : nullptr, B, N, P,
                       C);
    prefix_forward<R>(d_x, d_tokens, has_cls ? d_cls.data : nullptr, registers ? d_reg.data : nullptr, B, N, P, C, 0);
    check<R>("prefix_forward", d_x, x, VALUES);
    cpu.prefix_backward(dtokens.data(), has_cls ? dcls.data() : nullptr, registers ? dreg.data() : nullptr, dx.data(), B, N,
                        P, C);
    prefix_backward<G>(d_dtokens, has_cls ? d_dcls.data : nullptr, registers ? d_dreg.data : nullptr, d_dx, scratch, B, N,
                       P, C, 0);
    check<G>("prefix dtokens", d_dtokens, dtokens, {0, 0});
    check<float>("prefix dcls_token", d_dcls, dcls, SUMS);
    check<float>("prefix dreg_token", d_dreg, dreg, SUMS);
}

template <class G> static void test_prefixes() {
    test_prefix<G, float>(1, 3, 8, true, 0);
    test_prefix<G, float>(3, 18, 65, true, 1);
    test_prefix<G, float>(5, 20, 24, false, 4);
}

// Rows without gaps, by vectors or not, of one block's channels and of several; rows that lie apart
template <class T> static void test_bias(int rows, int C, int ld) {
    Floats dout = random_values<T>((size_t)rows * ld), dbias(C, 0.5f), packed((size_t)rows * C);
    for (size_t i = 0; i < packed.size(); i++) { packed[i] = dout[i / C * ld + i % C]; }
    Device<T> d_dout(dout);
    Device<float> d_dbias(dbias), scratch(bias_backward_scratch(rows, C));
    bias_backward<T>(d_dbias, d_dout, ld, scratch, rows, C, 0);
    check<T>("bias_backward", d_dbias, plus_column_sums(dbias, packed), SUMS);
}

template <class T> static void test_biases() {
    test_bias<T>(1, 8, 8);
    test_bias<T>(197, 72, 72);
    test_bias<T>(3 * 65, 584, 584);
    test_bias<T>(3 * 65, 584, 592);
    test_bias<T>(197, 65, 65);
}

template <class G, class R, class T> static void test_storage() {
    test_tokens<G, R, T>(1, 4, 4, 8, true);
    test_tokens<G, R, T>(3, 16, 4, 65, true);
    test_tokens<G, R, T>(37, 8, 4, 96, false);
    test_tokens<G, R, T>(5, 32, 4, 40, true);
    test_tokens<G, R, T>(3, 56, 4, 24, true); // 197 tokens
}

int main(int argc, char** argv) {
    test_patches<float>(1, 4, 4);
    test_patches<float>(3, 20, 5);
    test_patches<float>(2, 48, 16);
    test_patches<float>(3, 56, 8);
    test_patches<bf16>(3, 20, 5);
    test_patches<bf16>(2, 48, 16);
    test_storage<float, float, float>();
    test_storage<bf16, bf16, bf16>();
    test_storage<float, float, bf16>();
    test_storage<bf16, float, bf16>();
    test_storage<bf16, float, float>();
    test_prefixes<float>();
    test_prefixes<bf16>();
    test_biases<float>();
    test_biases<bf16>();
    return kernel_tests_finish(argc, argv);
}
