// The calls of include/nccl.h. What a group sends and receives is one operation of its stream; when its turn comes, all
// its messages proceed concurrently, those between two ranks in order, and it ends once the peers have taken what was
// sent: it does not rely on buffers that NCCL may have.
#include "include/nccl.h"
#include "../cuda_on_cpu/runtime/internal.h"
#include "segment.h"
#include <atomic>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

using namespace emu_nccl;

struct NcclCommunicator {
    Segment* segment;
    int rank, size, groups;             // groups: that have run
    bool used;                          // on a stream, and only on that from then on
    cudaStream_t stream;
    std::atomic<bool> asked;            // the program asks for errors
    std::atomic<ncclResult_t> error;
};

namespace emu_nccl {

// What precedes a message
struct Envelope { uint64_t bytes; int type, captured; };

struct Message {
    bool out;
    int peer;
    char* data;
    Envelope envelope;
    size_t done;        // bytes of the envelope and the data that were put or taken
    uint64_t end;       // when sending: its end in the mailbox, once it was put completely
    bool over;
};

static std::string last_error;
static int depth;                    // of nested groups
static ncclComm_t group_of;
static std::vector<Message> group;   // that is being built

__attribute__((format(printf, 2, 3))) static ncclResult_t refuse(ncclResult_t result, const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    last_error = text;
    return result;
}

static const char* type_name(int type) { return type == ncclFloat ? "floats" : "bytes"; }

static void say(ncclComm_t c, const Message& m) {
    RankState* own = &c->segment->rank[c->rank];
    snprintf(own->doing, sizeof own->doing, "group %d%s, %s %zu bytes (%s) %s rank %d, %zu done", c->groups,
             m.envelope.captured ? " of a graph" : "", m.out ? "sends" : "receives", (size_t)m.envelope.bytes,
             type_name(m.envelope.type), m.out ? "to" : "from", m.peer,
             m.done > sizeof m.envelope ? m.done - sizeof m.envelope : 0);
}

[[noreturn]] static void stop(ncclComm_t c, int peer, const char* why) {
    RankState *own = &c->segment->rank[c->rank], *other = &c->segment->rank[peer];
    static const char* const presence[] = {"has not come", "is there", "has left"};
    emu::fail("NCCL: rank %d: %s\n  rank %d: %s\n  rank %d %s: %s", c->rank, why, c->rank, own->doing, peer,
              presence[other->presence], *other->doing ? other->doing : "nothing sent or received yet");
}

// ---- Running a group

static void check_envelope(ncclComm_t c, const Message& m, const Envelope& sent) {
    const Envelope& own = m.envelope;
    say(c, m);
    if (sent.bytes != own.bytes) { stop(c, m.peer, "a message of another length comes than is received"); }
    if (sent.type != own.type) { stop(c, m.peer, "a message of another type comes than is received"); }
    if (sent.captured != own.captured) { stop(c, m.peer, "one of two ranks launches a message in a graph, one without"); }
}

static bool put_more(ncclComm_t c, Message& m) {
    Mailbox* box = mailbox_between(c->segment, c->rank, m.peer);
    size_t whole = sizeof m.envelope + m.envelope.bytes, before = m.done;
    while (m.done < whole) {
        bool front = m.done < sizeof m.envelope;
        size_t count = front ? put(box, (char*)&m.envelope + m.done, sizeof m.envelope - m.done)
                             : put(box, m.data + m.done - sizeof m.envelope, whole - m.done);
        if (!count) { break; }
        m.done += count;
        if (m.done == whole) { m.end = box->written; }
    }
    m.over = m.done == whole && box->taken >= m.end;
    return m.done > before || m.over;
}

static bool take_more(ncclComm_t c, Message& m) {
    Mailbox* box = mailbox_between(c->segment, m.peer, c->rank);
    size_t whole = sizeof m.envelope + m.envelope.bytes, before = m.done;
    if (m.done == 0) {
        Envelope sent;
        if (box->written - box->taken < sizeof sent) { return false; }
        m.done = take(box, &sent, sizeof sent);
        check_envelope(c, m, sent);
    }
    m.done += take(box, m.data + m.done - sizeof m.envelope, whole - m.done);
    m.over = m.done == whole;
    return m.done > before;
}

// Moves, for each peer and direction, the first message that is not complete
static bool move_some(ncclComm_t c, std::vector<Message>& list) {
    bool busy[2][MOST_RANKS] = {}, moved = false;
    for (Message& m : list) {
        if (m.over || busy[m.out][m.peer]) { continue; }
        moved |= m.out ? put_more(c, m) : take_more(c, m);
        busy[m.out][m.peer] = !m.over;
    }
    return moved;
}

static const Message* first_open(const std::vector<Message>& list) {
    for (const Message& m : list) {
        if (!m.over) { return &m; }
    }
    return nullptr;
}

// If the program asks for errors, it is told of a peer that is gone, and has the rest of the patience to act on it.
static void look_after_peers(ncclComm_t c, const std::vector<Message>& list, double waited) {
    const Message* open = first_open(list);
    say(c, *open);
    for (const Message& m : list) {
        bool gone = !m.over && (has_ended(c->segment, m.peer) || c->segment->rank[m.peer].presence == LEFT);
        if (gone && c->asked) { c->error = ncclRemoteError; }
        if (gone && !c->asked) { stop(c, m.peer, has_ended(c->segment, m.peer) ? "a peer has died" : "a peer has left"); }
    }
    if (waited > patience()) { stop(c, open->peer, "no progress for too long"); }
}

static void run(ncclComm_t c, std::vector<Message> list) {
    double moved = seconds_now(), looked = moved;
    for (const Message& m : list) {
        emu::check_range(m.data, m.envelope.bytes, m.out ? "ncclSend" : "ncclRecv",
                         m.out ? emu::Direction::read : emu::Direction::write);
    }
    if (emu::settings.skips) { return; }
    c->groups++;
    while (first_open(list)) {
        double now = seconds_now();
        if (move_some(c, list)) {
            moved = now;
        } else if (now - looked > 0.1) {
            look_after_peers(c, list, now - moved);
            looked = now;
        } else {
            sleep_briefly();
        }
    }
    snprintf(c->segment->rank[c->rank].doing, sizeof c->segment->rank[0].doing, "group %d is over", c->groups);
}

// ---- Building a group

static ncclResult_t add(ncclComm_t c, bool out, const void* data, size_t count, ncclDataType_t type, int peer,
                        cudaStream_t stream) {
    const char* call = out ? "ncclSend" : "ncclRecv";
    if (peer < 0 || peer >= c->size) { return refuse(ncclInvalidArgument, "%s: there is no rank %d", call, peer); }
    if (peer == c->rank) { emu::fail("%s to the own rank is not emulated", call); }
    if (!emu::find_allocation(data)) { emu::fail("%s: %p is not device memory", call, data); }
    if (c->used && c->stream != stream) { emu::fail("%s: the communicator was used on another stream before", call); }
    if (group_of && group_of != c) { emu::fail("a group over two communicators is not emulated"); }
    c->used = true, c->stream = stream, group_of = c;
    size_t bytes = count * (type == ncclFloat ? sizeof(float) : 1);
    group.push_back({out, peer, (char*)data, {bytes, (int)type, emu::is_capturing(stream)}, 0, 0, false});
    return ncclSuccess;
}

static void end_group() {
    ncclComm_t c = group_of;
    std::vector<Message> list;
    list.swap(group);
    group_of = nullptr;
    if (emu::settings.trace && c) { fprintf(stderr, "EMU NCCL group of %zu messages\n", list.size()); }
    if (c) { emu::enqueue(c->stream, [=] { run(c, list); }); }
}

// ---- Beginning

static std::string segment_name(const ncclUniqueId& id) {
    std::string name = std::string("/kat.c-") + id.internal;
    for (char& c : name) { c = c == ':' || (c == '/' && &c != &name[0]) ? '-' : c; }
    return name;
}

static const char* shared_device(const Segment* s) {
    static char text[128];
    bool allowed = getenv("NCCL_MULTI_RANK_GPU_ENABLE") != nullptr;
    for (int a = 0; a < s->size && !allowed; a++) {
        for (int b = 0; b < a; b++) {
            if (s->rank[a].devices == 1 || s->rank[a].device != s->rank[b].device) { continue; }
            snprintf(text, sizeof text, "ranks %d and %d both use device %d", b, a, s->rank[a].device);
            return text;
        }
    }
    return nullptr;
}

}

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    const char* where = getenv("NCCL_COMM_ID");
    if (!where) { return refuse(ncclSystemError, "NCCL_COMM_ID is not set: the emulation has no other way"); }
    snprintf(id->internal, sizeof id->internal, "%s", where);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int size, ncclUniqueId id, int rank) {
    std::string error;
    Member member = {rank, size, 0, 0};
    emu::require_one_host_thread();
    if (size < 1 || size > MOST_RANKS || rank < 0 || rank >= size) {
        return refuse(ncclInvalidArgument, "rank %d of %d: at most %d are emulated", rank, size, MOST_RANKS);
    }
    cudaGetDevice(&member.device);
    cudaGetDeviceCount(&member.devices);
    Segment* segment = join(segment_name(id).c_str(), member, &error);
    if (!segment) { return refuse(ncclSystemError, "%s", error.c_str()); }
    const char* shared = shared_device(segment);
    if (shared) { return refuse(ncclInvalidUsage, "%s", shared); }
    *communicator = new NcclCommunicator{segment, rank, size, 0, false, nullptr, {false}, {ncclSuccess}};
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c) {
    if (c->used) { emu::finish_stream(c->stream); }
    leave(c->segment, c->rank);
    delete c;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t* error) {
    c->asked = true;
    *error = c->error;
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t error) {
    static const char* const texts[] = {"no error", "system error", "invalid argument", "invalid usage", "remote error"};
    return texts[error];
}
const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

ncclResult_t ncclGroupStart(void) {
    depth++;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    if (depth == 0) { return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart"); }
    if (--depth == 0) { end_group(); }
    return ncclSuccess;
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t stream) {
    ncclGroupStart();
    ncclResult_t result = add(c, true, data, count, type, peer, stream);
    ncclGroupEnd();
    return result;
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t stream) {
    ncclGroupStart();
    ncclResult_t result = add(c, false, data, count, type, peer, stream);
    ncclGroupEnd();
    return result;
}

}
