// How an error ends the program: what, in which kernel, block and thread, then exit status 86.
#include "internal.h"
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace emu {

const Launch* current_launch;

// Launches come as "(name)": the parentheses protect commas of template arguments.
std::string kernel_name(const Launch& launch) { return std::string(launch.kernel + 1, strlen(launch.kernel) - 2); }

void print_place(FILE* out) {
    if (!current_launch) { return; }
    const Launch& l = *current_launch;
    fprintf(out, "  in kernel %s launched at %s:%d, block (%u,%u,%u) of (%u,%u,%u), thread (%u,%u,%u) of (%u,%u,%u)\n",
            kernel_name(l).c_str(), l.file, l.line, blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z,
            threadIdx.x, threadIdx.y, threadIdx.z, blockDim.x, blockDim.y, blockDim.z);
}

void stop() {
    print_place(stderr);
    fflush(nullptr);
    _exit(EXIT_STATUS); // not exit: destructors would run on a fiber's stack
}

void fail(const char* format, ...) {
    fflush(stdout);
    fprintf(stderr, "EMU ERROR: ");
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    stop();
}

static void on_signal(int signal) {
    const char* meaning = signal == SIGABRT ? "abort, assert or trap" : "bad address, or a thread's stack overflowed";
    fprintf(stderr, "EMU ERROR: signal %d (%s)\n", signal, meaning);
    stop();
}

// On a separate stack: the fault may be that a fiber's is full. AddressSanitizer itself reports faults better.
extern "C" void __asan_init() __attribute__((weak));
__attribute__((constructor)) static void catch_signals() {
    static char signal_stack[64 << 10];
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGABRT, &action, nullptr);
    if (__asan_init) { return; }
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) { sigaction(signal, &action, nullptr); }
}

}

// AddressSanitizer calls this before its own report.
extern "C" void __asan_on_error() { emu::print_place(stderr); }
