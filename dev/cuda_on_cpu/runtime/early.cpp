// Kernels that are launched early (include/emu/early.h): their names, and whether their threads waited.
#include "internal.h"
#include <cxxabi.h>
#include <dlfcn.h>
#include <map>
#include <stdlib.h>

namespace emu {

static size_t waits; // of the running launch

// "void f<A<B>, C>(int)" -> "(f<A<B>, C>)", in parentheses like the names in rewritten launches
static std::string bare_name(std::string name) {
    if (name.rfind("void ", 0) == 0) { name.erase(0, 5); }
    int depth = 0;
    size_t end = 0;
    while (end < name.size() && (depth > 0 || name[end] != '(')) {
        depth += (name[end] == '<') - (name[end] == '>');
        end++;
    }
    return "(" + name.substr(0, end) + ")";
}

const char* kernel_at(const void* kernel) {
    static std::map<const void*, std::string> names;
    std::string& name = names[kernel];
    if (name.empty()) {
        Dl_info info = {};
        dladdr(kernel, &info);
        char* demangled = info.dli_sname ? abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr) : nullptr;
        name = bare_name(demangled ? demangled : info.dli_sname ? info.dli_sname : "a kernel without a name");
        free(demangled);
    }
    return name.c_str();
}

void begin_waits() { waits = 0; }

void check_waits(const Launch& l) {
    size_t threads = (size_t)l.grid.x * l.grid.y * l.grid.z * l.block.x * l.block.y * l.block.z;
    if (l.early && !settings.skips && waits < threads) {
        fail("launched early, and %zu of %zu threads did not wait for the kernel in front", threads - waits, threads);
    }
}

}

void emu_grid_wait() {
    emu::waits++;
    emu::race_waited();
}
