// Launches with cudaLaunchAttributeProgrammaticStreamSerialization: on a GPU such a kernel may begin while the one in
// front of it runs. Here it runs behind that as every kernel does, and is held to the rule: each thread calls
// emu_grid_wait() (cudaGridDependencySynchronize), and not after it has touched device memory, which the race build
// sees.
#pragma once

void emu_grid_wait();

namespace emu {

const char* kernel_at(const void* kernel); // its name, as launches have it

}

template <class... Parameters>
void emu_launch_early(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                      Parameters... arguments) {
    emu::Place place;
    emu::Launch launch = {emu::kernel_at((const void*)kernel), place.file, place.line, grid, block, shared, stream, true};
    emu::submit(launch, std::make_shared<emu::BoundCall<void (*)(Parameters...), Parameters...>>(kernel, arguments...));
}
