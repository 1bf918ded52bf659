// Stacks, the switch itself, and what AddressSanitizer needs to know about it.
#include "fiber.h"
#include "internal.h"
#include <string.h>
#include <sys/mman.h>
#include <vector>

#if defined(__x86_64__)
asm(".text\n.globl emu_switch\n.type emu_switch,@function\n"
    "emu_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");
enum { FRAME_WORDS = 8, FRAME_RETURN = 6 }; // index of the return address; one more word keeps 16-byte alignment
#elif defined(__aarch64__)
asm(".text\n.globl emu_switch\n.type emu_switch,%function\n"
    "emu_switch:\n"
    "    sub sp, sp, #160\n"
    "    stp x19, x20, [sp]\n      stp x21, x22, [sp, #16]\n   stp x23, x24, [sp, #32]\n"
    "    stp x25, x26, [sp, #48]\n stp x27, x28, [sp, #64]\n   stp x29, x30, [sp, #80]\n"
    "    stp d8, d9, [sp, #96]\n   stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "    mov x9, sp\n    str x9, [x0]\n"
    "    mov sp, x1\n"
    "    ldp x19, x20, [sp]\n      ldp x21, x22, [sp, #16]\n   ldp x23, x24, [sp, #32]\n"
    "    ldp x25, x26, [sp, #48]\n ldp x27, x28, [sp, #64]\n   ldp x29, x30, [sp, #80]\n"
    "    ldp d8, d9, [sp, #96]\n   ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "    add sp, sp, #160\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");
enum { FRAME_WORDS = 20, FRAME_RETURN = 11 };
#else
#error "cuda_on_cpu knows how to switch stacks on x86-64 and on AArch64"
#endif

// AddressSanitizer must be told of every switch. The symbols exist only if the program is linked with it.
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* stack, size_t size) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void* saved, const void** old_stack, size_t* old_size) __attribute__((weak));
}

namespace emu {

bool announce_switches = __sanitizer_start_switch_fiber != nullptr;

static std::vector<char*> free_stacks;
static const void* host_stack;
static size_t host_stack_size;

static char* take_stack() {
    if (!free_stacks.empty()) {
        char* stack = free_stacks.back();
        free_stacks.pop_back();
        return stack;
    }
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char* stack = (char*)mmap(nullptr, STACK_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (stack == MAP_FAILED) { fail("no memory for the stack of a thread"); }
    mprotect(stack, 4096, PROT_NONE); // an overflow faults instead of overwriting another stack
    return stack;
}

void fiber_create(Fiber* fiber, void (*entry)()) {
    fiber->stack = take_stack();
    // Stacks that all end at a multiple of their size would share a few cache sets, so each is shifted differently.
    size_t shift = (uintptr_t)fiber->stack / STACK_SIZE * 832 % 12288 / 64 * 64;
    void** frame = (void**)(fiber->stack + STACK_SIZE - shift) - FRAME_WORDS;
    memset(frame, 0, FRAME_WORDS * sizeof(void*));
    frame[FRAME_RETURN] = (void*)entry;
    fiber->stack_pointer = frame;
}

void fiber_switch_announced(Fiber* from, Fiber* to, bool leaving) {
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(leaving ? nullptr : &fake_stack, to->stack ? to->stack : host_stack,
                                   to->stack ? STACK_SIZE : host_stack_size);
    emu_switch(&from->stack_pointer, to->stack_pointer);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void fiber_exit(Fiber* from, Fiber* to) {
    free_stacks.push_back(from->stack);
    if (announce_switches) { fiber_switch_announced(from, to, true); }
    emu_switch(&from->stack_pointer, to->stack_pointer);
}

void fiber_entered() {
    if (!announce_switches) { return; }
    const void* stack;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &size);
    if (!host_stack) { // the very first switch comes from the host
        host_stack = stack;
        host_stack_size = size;
    }
}

}
