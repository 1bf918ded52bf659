// The shared memory of a communicator's processes: which are present, what each does, and a mailbox for each pair.
#pragma once
#include <atomic>
#include <stddef.h>
#include <stdint.h>
#include <string>

namespace emu_nccl {

constexpr int MOST_RANKS = 16;
constexpr size_t MAILBOX_BYTES = 256 << 10;

enum Presence { ABSENT, PRESENT, LEFT };

struct RankState {
    std::atomic<int> presence; // a Presence
    int device, devices;       // the device used, and the number of this process's devices
    char doing[160];           // for reports
};

// A ring buffer; both count bytes from the start.
struct Mailbox {
    std::atomic<uint64_t> written, taken;
    char ring[MAILBOX_BYTES];
};

struct Segment {
    std::atomic<int> size;  // 0: not yet made
    RankState rank[MOST_RANKS];
    Mailbox mailbox[];      // (size, size), from, to
};

// This rank of how many, and its device of how many
struct Member { int rank, size, device, devices; };

// The segment of this name, once all ranks have joined; nullptr: they have not, *error says why
Segment* join(const char* name, Member member, std::string* error);
void leave(Segment* segment, int rank);
bool has_ended(const Segment* segment, int rank); // without leaving

Mailbox* mailbox_between(Segment* segment, int from, int to);
size_t put(Mailbox* box, const void* data, size_t most);  // returns how much fitted
size_t take(Mailbox* box, void* data, size_t most);       // returns how much was there

double seconds_now();
double patience(); // seconds allowed without progress: EMU_NCCL_SECONDS, or 30
void sleep_briefly();

}
