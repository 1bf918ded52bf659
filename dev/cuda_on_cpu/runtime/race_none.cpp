// Replaces race.cpp in the builds that do not watch loads and stores.
#include "internal.h"

namespace emu {

void race_allocated(Allocation*) {}
void race_freed(Allocation*) {}
const Traffic* launch_traffic() { return nullptr; }
void race_launch() {}
void race_block() {}
void race_waited() {}
void race_shared(void*, size_t) {}
void race_shared_end() {}
void race_range(const void*, size_t, Direction) {}
void note_fence() {}
void note_atomic(void*, size_t) {}

}
