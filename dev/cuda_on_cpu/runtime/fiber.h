// Fibers: threads of control that yield only explicitly. Switching saves and restores the registers that a function
// call must preserve, 4 to 9 ns; the library's ucontext also makes a system call, about 230 ns.
#pragma once
#include <stddef.h>

// emu_switch(&save, load): pushes the registers that a callee must preserve, stores the stack pointer in *save, loads
// the stack pointer from `load` and pops the registers there. A new fiber's stack is prepared to look the same.
extern "C" void emu_switch(void** save, void* load);

namespace emu {

constexpr size_t STACK_SIZE = 256 << 10; // the system allocates pages when they are touched

struct Fiber {
    void* stack_pointer;
    char* stack; // nullptr: the host's own
};

void fiber_create(Fiber* fiber, void (*entry)()); // takes a stack; entry must not return
void fiber_exit(Fiber* from, Fiber* to);          // hands the stack back and never returns
void fiber_entered();                             // the first thing that entry calls
void fiber_switch_announced(Fiber* from, Fiber* to, bool leaving);

extern bool announce_switches; // to AddressSanitizer

inline void fiber_switch(Fiber* from, Fiber* to) {
    if (announce_switches) {
        fiber_switch_announced(from, to, false);
    } else {
        emu_switch(&from->stack_pointer, to->stack_pointer);
    }
}

}
