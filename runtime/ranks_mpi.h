// Messages between ranks by any MPI, point to point only. To be included by exchange.h.
#pragma once
#include <mpi.h>

enum { MPI_MOST_BYTES = 1 << 30 }; // in one of MPI's messages, whose counts are int

static bool engine_runs;
static char engine_text[MPI_MAX_LIBRARY_VERSION_STRING];

// Such as "Open MPI v4.1.4"
static inline const char* engine_name(void) {
    int length;
    MPI_Get_library_version(engine_text, &length);
    engine_text[strcspn(engine_text, ",\n")] = 0;
    for (char* c = engine_text; *c; c++) { *c = *c == '\t' ? ' ' : *c; }
    return engine_text;
}

// Open MPI's simultaneous transfers by TCP in both directions reach half of a network's bandwidth if replies queue
// behind data in one connection: two are made, unless the user sets their number.
static inline bool engine_begin(const char* program, Error* err) {
    int level, size = 1, rank = 0;
    setenv("OMPI_MCA_btl_tcp_links", "2", 0);
    wait_begin();
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) == MPI_SUCCESS) {
        MPI_Comm_size(MPI_COMM_WORLD, &size);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        engine_runs = true;
    }
    wait_end();
    if (size != ranks.size || rank != ranks.rank) {
        return set_error(err, "%d processes were started by %s, but %s is built with %s, which finds %d: use its mpirun",
                         ranks.size, ranks.launcher, program, engine_name(), size);
    }
    return true;
}

static inline void engine_end(void) {
    wait_on("the end of all", -1);
    wait_begin();
    if (engine_runs) { MPI_Finalize(); }
    wait_end();
    engine_runs = false;
}

static inline uint64_t engine_key(void) { return 0; } // ranks of two launches cannot meet

static inline int mpi_messages(const Message* list, int count) {
    size_t messages = 0;
    for (int i = 0; i < count; i++) { messages += (list[i].bytes + MPI_MOST_BYTES - 1) / MPI_MOST_BYTES; }
    return (int)messages;
}

// Messages between two ranks keep the order of their lists. Writes the rank of each request, and returns their number.
static inline int mpi_post(const Message* list, int count, bool out, int tag, MPI_Request* request, int* with) {
    int posted = 0;
    for (int i = 0; i < count; i++) {
        int rank = ranks.at_place[list[i].place];
        for (size_t at = 0; at < list[i].bytes; at += MPI_MOST_BYTES) {
            size_t rest = list[i].bytes - at;
            char* data = (char*)list[i].data + at;
            int bytes = (int)(rest < MPI_MOST_BYTES ? rest : MPI_MOST_BYTES);
            if (out) {
                MPI_Isend(data, bytes, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &request[posted]);
            } else {
                MPI_Irecv(data, bytes, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &request[posted]);
            }
            with[posted++] = rank;
            wait_for(rank, tag != 0);
        }
    }
    return posted;
}

typedef struct {
    bool beside;      // beside other work, unlike those of exchange()
    MPI_Request* request;
    int *with, *over; // (count) the rank of each request; which have completed, when polled
    int count, left;  // how many there are; and how many have not completed
} Transfer;

static inline void transfer_begin(Transfer* t, int tag, const Message* out, int outs, const Message* in, int ins) {
    *t = (Transfer){.beside = tag != 0, .count = mpi_messages(out, outs) + mpi_messages(in, ins)};
    t->left = t->count;
    if (t->count == 0) { return; }
    t->request = alloc_array(MPI_Request, t->count, "messages");
    t->with = alloc_array(int, 2 * t->count, "messages");
    t->over = t->with + t->count;
    int posted = mpi_post(in, ins, false, tag, t->request, t->with);
    mpi_post(out, outs, true, tag, t->request + posted, t->with + posted);
}

static inline bool transfer_done(Transfer* t) {
    int some = 0;
    if (t->left == 0) { return true; }
    MPI_Testsome(t->count, t->request, &some, t->over, MPI_STATUSES_IGNORE);
    for (int i = 0; i < some; i++) { wait_got(t->with[t->over[i]], t->beside); }
    t->left -= some;
    if (t->left > 0) { return false; }
    free(t->request);
    free(t->with);
    return true;
}
