// Launches with cudaLaunchAttributeProgrammaticStreamSerialization: on a GPU such a kernel may begin while the previous
// one runs. Here it runs after that, as every kernel does, but the rule is enforced: each thread calls emu_grid_wait()
// (cudaGridDependencySynchronize), and before it touches device memory, which the race build checks.
#pragma once

void emu_grid_wait();

namespace emu {

const char* kernel_at(const void* kernel); // its name, as in launches

}

template <class... Parameters>
void emu_launch_early(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                      Parameters... arguments) {
    emu::Place place;
    emu::Launch launch = {emu::kernel_at((const void*)kernel), place.file, place.line, grid, block, shared, stream, true};
    emu::submit(launch, std::make_shared<emu::BoundCall<void (*)(Parameters...), Parameters...>>(kernel, arguments...));
}
