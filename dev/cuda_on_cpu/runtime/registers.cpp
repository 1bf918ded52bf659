// Registers of kernels, as reported by the compiler, from the file EMU_REGISTERS, one line per kernel:
//   64 kernel<8, __nv_bfloat16>      registers per thread, the demangled name without arguments
#include "internal.h"
#include <cxxabi.h>
#include <map>
#include <stdlib.h>
#include <string.h>

namespace emu {

// "void kernel<(Form)0>(float*, int)" -> "kernel<(Form)0>"
static std::string without_arguments(std::string name) {
    size_t at = name.size();
    int depth = 0;
    do {
        at--;
        depth += (name[at] == ')') - (name[at] == '(');
    } while (at > 0 && depth > 0);
    name.resize(at);
    return name.compare(0, 5, "void ") == 0 ? name.substr(5) : name;
}

static std::string kernel_of(const char* symbol) {
    int status = 0;
    char* demangled = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
    std::string name = demangled ? without_arguments(demangled) : symbol;
    free(demangled);
    return name;
}

static std::map<std::string, int> read_registers(const char* path) {
    std::map<std::string, int> table;
    char line[1024], name[1024];
    int registers;
    FILE* file = fopen(path, "r");
    if (!file) { fail("EMU_REGISTERS=%s: no such file", path); }
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%d %1023[^\n]", &registers, name) == 2) { table[name] = registers; }
    }
    fclose(file);
    return table;
}

int registers_of(const char* symbol) {
    const char* path = getenv("EMU_REGISTERS");
    if (!path || !*path) { return 0; }
    static const std::map<std::string, int> table = read_registers(path);
    auto found = table.find(kernel_of(symbol));
    return found == table.end() ? 0 : found->second;
}

// Each of a multiprocessor's four schedulers has 16,384 registers, allocated to whole warps in units of 256.
bool registers_suffice(int registers, size_t threads) {
    const size_t SCHEDULERS = 4, OF_SCHEDULER = 16384, UNIT = 256;
    size_t of_warp = ((size_t)registers * warpSize + UNIT - 1) / UNIT * UNIT;
    return of_warp == 0 || (threads + warpSize - 1) / warpSize <= OF_SCHEDULER / of_warp * SCHEDULERS;
}

}
