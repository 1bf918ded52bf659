// Launches and shared memory: what cuda_to_cpp.sh writes in place of the CUDA syntax.
//   kernel<A, B><<<grid, block, shared, stream>>>(x);  EMU_LAUNCH((kernel<A, B>), grid, block, shared, stream)(x);
//   __shared__ float tile[16][17];                     static float tile[16][17]; EMU_SHARED(tile);
//   extern __shared__ float smem[];                    EMU_DYNAMIC_SHARED(float, smem);
//   __global__ void kernel(int n) {                    __global__ void kernel(int n) { emu::enter_kernel();
#pragma once
#include <memory>
#include <tuple>

namespace emu {

struct Launch {
    const char* kernel;
    const char* file;
    int line;
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
    bool early = false; // emu/early.h
};

// A kernel with its arguments at the time of the launch: a stream may run it later.
struct Call {
    size_t size;               // of the whole object, which kernels may read as their parameter space
    virtual void run() = 0;    // runs the kernel in one thread
    virtual ~Call() {}
};

template <class Kernel, class... Arguments> struct BoundCall : Call {
    Kernel kernel;
    std::tuple<Arguments...> arguments;
    BoundCall(Kernel kernel, Arguments... a) : kernel(kernel), arguments(a...) { size = sizeof *this; }
    template <size_t... i> EMU_UNWATCHED void apply(std::index_sequence<i...>) { kernel(std::get<i>(arguments)...); }
    EMU_UNWATCHED void run() override { apply(std::index_sequence_for<Arguments...>()); }
};

void submit(const Launch& launch, std::shared_ptr<Call> call);

template <class Kernel> struct Launcher {
    Kernel kernel;
    Launch launch;
    template <class... Arguments> void operator()(Arguments... arguments) const {
        submit(launch, std::make_shared<BoundCall<Kernel, Arguments...>>(kernel, arguments...));
    }
};

template <class Kernel>
Launcher<Kernel> launcher(Kernel kernel, const char* name, Place place, dim3 grid, dim3 block, size_t shared = 0,
                          cudaStream_t stream = nullptr) {
    return {kernel, {name, place.file, place.line, grid, block, shared, stream}};
}

}

#define EMU_LAUNCH(KERNEL, ...) \
    emu::launcher([=](auto... arguments) { KERNEL(arguments...); }, #KERNEL, emu::Place(), __VA_ARGS__)

// Shared arrays are static: blocks run one after another, and AddressSanitizer puts red zones around statics but not
// around thread-locals. Each block finds them filled with NaNs.
#define EMU_SHARED(name) \
    static unsigned name##_last_block; emu::enter_shared((void*)&name, sizeof(name), &name##_last_block)
#define EMU_DYNAMIC_SHARED(type, name) type* name = (type*)emu::dynamic_shared()
