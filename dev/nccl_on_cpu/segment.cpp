// POSIX shared memory. Each process holds a lock on a byte of the file, which ends with it: so the others see that it
// has ended, and a segment left behind can be told from one in use.
#include "segment.h"
#include <algorithm>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

namespace emu_nccl {

static int file = -1; // of the segment, one per process

double seconds_now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

double patience() {
    const char* given = getenv("EMU_NCCL_SECONDS");
    return given ? atof(given) : 30;
}

void sleep_briefly() { usleep(50); }

static bool lock(int rank) {
    struct flock byte = {};
    byte.l_type = F_WRLCK, byte.l_start = rank, byte.l_len = 1;
    return fcntl(file, F_OFD_SETLK, &byte) == 0;
}

static bool is_locked(int rank) { // by another process
    struct flock byte = {};
    byte.l_type = F_WRLCK, byte.l_start = rank, byte.l_len = 1;
    return fcntl(file, F_OFD_GETLK, &byte) == 0 && byte.l_type != F_UNLCK;
}

static size_t segment_bytes(int size) { return sizeof(Segment) + (size_t)size * size * sizeof(Mailbox); }

static Segment* map(int size) {
    void* p = mmap(nullptr, segment_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return p == MAP_FAILED ? nullptr : (Segment*)p;
}

static void close_file() {
    if (file >= 0) { close(file); }
    file = -1;
}

// By rank 0. An existing one that is in use belongs to another run.
static Segment* make(const char* name, int size, std::string* error) {
    file = shm_open(name, O_RDWR, 0600);
    if (file >= 0 && is_locked(0)) {
        *error = std::string(name) + " is in use by another run";
        return nullptr;
    }
    close_file();
    shm_unlink(name);
    file = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    Segment* s = nullptr;
    if (file >= 0 && lock(0) && ftruncate(file, (off_t)segment_bytes(size)) == 0) { s = map(size); }
    if (!s) { *error = std::string(name) + ": " + strerror(errno); }
    return s;
}

// By the others: rank 0's, once it exists with its full size
static Segment* find(const char* name, int rank, int size) {
    struct stat status;
    file = shm_open(name, O_RDWR, 0600);
    bool whole = file >= 0 && is_locked(0) && fstat(file, &status) == 0 && (size_t)status.st_size >= segment_bytes(size);
    Segment* s = whole && lock(rank) ? map(size) : nullptr;
    if (!s) { close_file(); }
    return s;
}

static int present(const Segment* s, int size) {
    int count = 0;
    for (int r = 0; r < size; r++) { count += s->rank[r].presence != ABSENT; }
    return count;
}

// Presence is written last of a rank's state, and read first.
static bool all_come(Segment* s, Member m, double until, std::string* error) {
    int size = m.size;
    s->rank[m.rank].device = m.device, s->rank[m.rank].devices = m.devices;
    s->rank[m.rank].presence = PRESENT;
    while (present(s, size) < size && seconds_now() < until) { sleep_briefly(); }
    int there = present(s, size);
    if (there < size) { *error = std::to_string(there) + " of " + std::to_string(size) + " ranks have come"; }
    return there == size;
}

Segment* join(const char* name, Member m, std::string* error) {
    int rank = m.rank, size = m.size;
    double until = seconds_now() + patience();
    Segment* s = rank == 0 ? make(name, size, error) : nullptr;
    while (rank != 0 && !(s = find(name, rank, size)) && seconds_now() < until) { sleep_briefly(); }
    if (!s) {
        if (rank != 0) { *error = std::string("rank 0 has not come to ") + name; }
        return nullptr;
    }
    if (rank == 0) { s->size = size; }
    while (s->size == 0 && seconds_now() < until) { sleep_briefly(); }
    bool same = s->size == size;
    if (!same) { *error = "the ranks count " + std::to_string(s->size) + " and " + std::to_string(size) + " of them"; }
    bool whole = same && all_come(s, m, until, error);
    if (rank == 0) { shm_unlink(name); }
    return whole ? s : nullptr;
}

void leave(Segment* s, int rank) {
    s->rank[rank].presence = LEFT;
    munmap(s, segment_bytes(s->size));
    close_file();
}

bool has_ended(const Segment* s, int rank) { return s->rank[rank].presence == PRESENT && !is_locked(rank); }

Mailbox* mailbox_between(Segment* s, int from, int to) { return &s->mailbox[from * s->size + to]; }

size_t put(Mailbox* box, const void* data, size_t most) {
    uint64_t at = box->written, room = MAILBOX_BYTES - (at - box->taken);
    size_t count = std::min<uint64_t>(most, room), start = at % MAILBOX_BYTES;
    size_t before_end = std::min(count, MAILBOX_BYTES - start);
    memcpy(box->ring + start, data, before_end);
    memcpy(box->ring, (const char*)data + before_end, count - before_end);
    box->written = at + count;
    return count;
}

size_t take(Mailbox* box, void* data, size_t most) {
    uint64_t at = box->taken, there = box->written - at;
    size_t count = std::min<uint64_t>(most, there), start = at % MAILBOX_BYTES;
    size_t before_end = std::min(count, MAILBOX_BYTES - start);
    memcpy(data, box->ring + start, before_end);
    memcpy((char*)data + before_end, box->ring, count - before_end);
    box->taken = at + count;
    return count;
}

}
