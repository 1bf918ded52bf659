// One block: its threads as fibers, the scheduler, barriers and the meetings of warps.
#include "fiber.h"
#include "internal.h"
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emu {

int lane;
unsigned block_count;
Running running;

enum class State { fresh, ready, at_barrier, at_warp_op, exited };

struct Thread {
    Fiber fiber;
    uint3 index;
    int number; // linear
    State state;
    unsigned priority;
    // while it waits: at which operation and, for a warp operation, with which lanes and data
    const char* operation;
    Place place;
    unsigned mask;
    void* exchange;
    std::vector<AsyncCopy> copies; // started, those of `groups` committed
    int groups;
};

// Lanes of a warp that have arrived at one operation with one mask. Groups with different masks may wait concurrently.
struct Meeting {
    unsigned mask, arrived;
    Together together;
    Memory memory;
};
struct Warp {
    unsigned alive; // lanes that have not left the kernel
    int meeting_count;
    Meeting meetings[32];
};

static Thread threads[MAX_THREADS];
static Warp warps[MAX_THREADS / 32];
static Thread* current;
static Fiber host;
static Call* body;
static int thread_count, exited_count, waiting_count; // waiting: at the barrier
static int votes[3], voted[3];                        // by Vote: of the current barrier, of the last one
static Place barrier_place;

// ---- reports -------------------------------------------------------------------------------------------------------

static std::string where_it_stands(const Thread& t) {
    char text[400];
    switch (t.state) {
    case State::exited: return "left the kernel";
    case State::at_barrier:
        snprintf(text, sizeof text, "wait at %s, %s:%d", t.operation, t.place.file, t.place.line);
        return text;
    case State::at_warp_op:
        snprintf(text, sizeof text, "wait at %s(mask %08x), %s:%d", t.operation, t.mask, t.place.file, t.place.line);
        return text;
    default: return "can run";
    }
}

// Stops, listing the threads by where they are: "threads 0-15,48: wait at __syncthreads, x.cu:12".
[[noreturn]] static void fail_with_threads(const char* what) {
    std::map<std::string, std::string> groups;
    for (int first = 0, last; first < thread_count; first = last + 1) {
        std::string place = where_it_stands(threads[first]);
        for (last = first; last + 1 < thread_count && where_it_stands(threads[last + 1]) == place;) { last++; }
        std::string& numbers = groups[place];
        numbers.append(numbers.empty() ? "" : ",").append(std::to_string(first));
        if (last > first) { numbers.append("-").append(std::to_string(last)); }
    }
    fprintf(stderr, "EMU ERROR: %s\n", what);
    for (auto& group : groups) {
        const char* more = group.second.size() > 200 ? "..." : "";
        fprintf(stderr, "  threads %.200s%s: %s\n", group.second.c_str(), more, group.first.c_str());
    }
    stop();
}

// ---- scheduler: a stack of runnable threads, or under Order::priority a heap -----------------------------------

static Thread* ready[MAX_THREADS];
static int ready_count;

static bool has_lower_priority(const Thread* a, const Thread* b) { return a->priority < b->priority; }

static void make_ready(Thread* t) {
    ready[ready_count++] = t;
    if (settings.order == Order::priority) { std::push_heap(ready, ready + ready_count, has_lower_priority); }
}

// The thread made ready last runs first, so that several are pushed in reverse.
static void make_ready_in_order(int begin, int end, State state, unsigned mask = FULL_WARP) {
    bool reverse = settings.order == Order::reverse;
    for (int k = 0; k < end - begin; k++) {
        Thread& t = threads[reverse ? begin + k : end - 1 - k];
        if (t.state != state || !(mask >> (t.number & 31) & 1)) { continue; }
        if (state != State::fresh) { t.state = State::ready; }
        make_ready(&t);
    }
}

static Thread* take_ready() {
    if (!ready_count) { return nullptr; }
    if (settings.order == Order::priority) {
        std::pop_heap(ready, ready + ready_count, has_lower_priority);
    } else if (settings.order == Order::random) {
        std::swap(ready[random_number() % ready_count], ready[ready_count - 1]);
    }
    return ready[--ready_count];
}

static void set_current(Thread* t) {
    current = t;
    threadIdx = t->index;
    lane = t->number & 31;
    running.thread = t->number;
    running.stack = (uintptr_t)t->fiber.stack;
    running.stack_size = STACK_SIZE;
}

static void thread_main();

static void prepare(Thread* t) {
    if (t->state == State::fresh) {
        fiber_create(&t->fiber, thread_main);
        t->state = State::ready;
    }
    set_current(t);
}

// Lets another thread run until this one is made ready and picked again.
static void suspend() {
    Thread* me = current;
    Thread* next = take_ready();
    if (!next) { fail_with_threads("deadlock: no thread of the block can run"); }
    if (next == me) { return; }
    prepare(next);
    fiber_switch(&me->fiber, &next->fiber);
}

// ---- __syncthreads -------------------------------------------------------------------------------------------------

static void clear_votes() {
    votes[(int)Vote::count] = votes[(int)Vote::any] = 0;
    votes[(int)Vote::all] = 1;
}

static void release_barrier() {
    if (exited_count) { fail_with_threads("threads left the kernel while the rest of the block waits at a barrier"); }
    waiting_count = 0;
    running.epoch++;
    std::copy(votes, votes + 3, voted);
    clear_votes();
    make_ready_in_order(0, thread_count, State::at_barrier);
}

void barrier(Place place) {
    if (!current_launch) { fail("__syncthreads outside a kernel"); }
    current->operation = "__syncthreads";
    current->place = place;
    current->state = State::at_barrier;
    if (!waiting_count++) {
        barrier_place = place;
    } else if (place.line != barrier_place.line) {
        fail_with_threads("threads of one block wait at different __syncthreads");
    }
    if (waiting_count + exited_count == thread_count) { release_barrier(); }
    suspend();
}

int barrier_vote(bool vote, Vote kind, Place place) {
    votes[(int)Vote::count] += vote;
    votes[(int)Vote::all] &= vote;
    votes[(int)Vote::any] |= vote;
    barrier(place);
    return voted[(int)kind];
}

// ---- warp operations -----------------------------------------------------------------------------------------------

static void complete(Warp& warp, int which, int first_thread) {
    Meeting meeting = warp.meetings[which];
    warp.meetings[which] = warp.meetings[--warp.meeting_count];
    void* lanes[32];
    int line = -1;
    for (int i = 0; i < 32; i++) {
        const Thread& t = threads[first_thread + i];
        bool present = meeting.arrived >> i & 1;
        lanes[i] = present ? t.exchange : nullptr;
        if (!present) { continue; }
        if (line >= 0 && t.place.line != line) {
            fail_with_threads("lanes of one warp meet in the same operation on different lines");
        }
        line = t.place.line;
    }
    running.unwatched = true; // it accesses the other lanes' locals
    meeting.together(lanes, meeting.arrived);
    running.unwatched = false;
    if (meeting.memory == Memory::ordered) { running.warp_epoch[first_thread / 32]++; }
    make_ready_in_order(first_thread, std::min(first_thread + 32, thread_count), State::at_warp_op, meeting.arrived);
}

static bool everyone_came(const Warp& warp, const Meeting& meeting) {
    return !(meeting.mask & warp.alive & ~meeting.arrived);
}

void warp_op(unsigned mask, Together together, void* mine, const char* name, Place place, Memory memory) {
    if (!current_launch) { fail("%s outside a kernel", name); }
    int first_thread = current->number & ~31;
    Warp& warp = warps[first_thread / 32];
    current->operation = name;
    current->place = place;
    current->mask = mask;
    current->exchange = mine;
    current->state = State::at_warp_op;
    if (!(mask >> lane & 1)) { fail_with_threads("a thread calls a warp operation whose mask leaves it out"); }
    int i = 0;
    while (i < warp.meeting_count && (warp.meetings[i].mask != mask || warp.meetings[i].together != together)) { i++; }
    if (i == warp.meeting_count) { warp.meetings[warp.meeting_count++] = {mask, 0, together, memory}; }
    warp.meetings[i].arrived |= 1u << lane;
    if (everyone_came(warp, warp.meetings[i])) { complete(warp, i, first_thread); }
    suspend();
}

// ---- cp.async ------------------------------------------------------------------------------------------------------

void start_copy(AsyncCopy copy) {
    copy.group = current->groups;
    current->copies.push_back(copy);
}

void commit_copies() { current->groups++; }

bool finish_copy(AsyncCopy* copy, int groups) {
    auto& copies = current->copies;
    if (copies.empty() || copies[0].group + groups >= current->groups) { return false; }
    *copy = copies[0];
    copies.erase(copies.begin());
    return true;
}

// ---- the life of a thread ------------------------------------------------------------------------------------------

// Others may have waited only for this thread.
static void leave_kernel(Thread* t) {
    t->state = State::exited;
    exited_count++;
    int first_thread = t->number & ~31;
    Warp& warp = warps[first_thread / 32];
    warp.alive &= ~(1u << (t->number & 31));
    for (int i = 0; i < warp.meeting_count;) {
        if (everyone_came(warp, warp.meetings[i])) { complete(warp, i, first_thread); } else { i++; }
    }
    if (waiting_count && waiting_count + exited_count == thread_count) { release_barrier(); }
}

static void thread_main() {
    fiber_entered();
    for (;;) {
        body->run();
        Thread* me = current;
        leave_kernel(me);
        Thread* next = take_ready();
        if (!next && exited_count < thread_count) { fail_with_threads("deadlock: no thread of the block can run"); }
        if (next && next->state == State::fresh) { // it takes over this stack, without a switch
            next->fiber.stack = me->fiber.stack;
            next->state = State::ready;
            set_current(next);
            continue;
        }
        if (next) { prepare(next); }
        fiber_exit(&me->fiber, next ? &next->fiber : &host);
    }
}

static void set_up_threads() {
    thread_count = blockDim.x * blockDim.y * blockDim.z;
    for (int i = 0; i < thread_count; i++) {
        Thread& t = threads[i];
        t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        t.number = i;
        t.state = State::fresh;
        t.copies.clear();
        t.groups = 0;
        if (settings.order != Order::priority) { continue; }
        unsigned of_warp = i % 32 ? threads[i & ~31].priority & ~1023u : (unsigned)random_number() << 10;
        t.priority = of_warp | (random_number() & 1023); // the warp's priority decides, then the lane's
    }
    for (int w = 0; w * 32 < thread_count; w++) {
        int lanes = thread_count - w * 32;
        warps[w].alive = lanes >= 32 ? FULL_WARP : (1u << lanes) - 1;
        warps[w].meeting_count = 0;
        running.warp_epoch[w] = 1;
    }
}

void run_block(Call* call) {
    block_count++;
    body = call;
    exited_count = waiting_count = ready_count = 0;
    clear_votes();
    set_up_threads();
    make_ready_in_order(0, thread_count, State::fresh);
    Thread* first = take_ready();
    prepare(first);
    fiber_switch(&host, &first->fiber);
}

}
