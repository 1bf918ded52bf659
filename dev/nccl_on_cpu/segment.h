// The memory that the processes of a communicator share: who is there, what each does, and a mailbox from each to each.
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
    int device, devices;       // which of how many of this process's is used
    char doing[160];           // for reports
};

// What the sender has written goes round; both count bytes from the start.
struct Mailbox {
    std::atomic<uint64_t> written, taken;
    char ring[MAILBOX_BYTES];
};

struct Segment {
    std::atomic<int> size;  // 0: not yet made
    RankState rank[MOST_RANKS];
    Mailbox mailbox[];      // (size, size), from, to
};

// Which of how many ranks this is, and of how many devices it uses
struct Member { int rank, size, device, devices; };

// The segment of this name, once all ranks are there; nullptr: they are not, *error says why
Segment* join(const char* name, Member member, std::string* error);
void leave(Segment* segment, int rank);
bool has_ended(const Segment* segment, int rank); // without leaving

Mailbox* mailbox_between(Segment* segment, int from, int to);
size_t put(Mailbox* box, const void* data, size_t most);  // how much of it there was room for
size_t take(Mailbox* box, void* data, size_t most);       // how much of it was there

double seconds_now();
double patience(); // seconds without progress that are too many: EMU_NCCL_SECONDS, or 30
void sleep_briefly();

}
