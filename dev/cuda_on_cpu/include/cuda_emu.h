// CUDA on the CPU: what a rewritten .cu sees. The build includes this file before each (-include), with the toolkit's
// own headers for types, enums and the prototypes of host functions. Device functions are in the headers below; host
// functions in ../runtime.
#pragma once

// Each kernel is a function with a distinct address, by which the runtime tells them apart
#ifdef __clang__
#define __global__ __attribute__((noinline))
#else
#define __global__ __attribute__((noinline, noclone))
#endif

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define CUDA_EMU 1

#undef __launch_bounds__
#define __launch_bounds__(...)

#include "emu/core.h"
#include "emu/launch.h"
#include "emu/early.h"
#include "emu/warp.h"
#include "emu/memory.h"
#include "emu/arithmetic.h"
#include "emu/symbols.h"
#include "emu/ptx.h"
