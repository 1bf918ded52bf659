// Several processes that train one model are ranks. The environment of any launcher tells this process its rank and the
// number of ranks; no library is asked. A size of 1 is as if there were no launcher.
//
// A launcher numbers the ranks as it likes. Work is assigned by place: the ranks of one node are next to each other,
// the node of the lowest rank first. Place p computes micro-batches share_of(A, R, p) of a step; model/buckets.h has
// which of their gradients it adds up.
#pragma once
#include "error.h"
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum { NODE_NAME = 64, PROCESSOR_NAME = 96 };

typedef struct {
    int rank, size;             // as the launcher numbers them
    int local_rank, local_size; // among those on this node
    const char* launcher;       // NULL: none
    char node[NODE_NAME];       // RANKS_NODE, or the host's name
    int sharers;                // ranks, including this one, that may run on its cores
    int place, nodes;           // this and the rest are known once the ranks have met
    int per_node;               // ranks on each node; 1 if nodes differ in that
    int* at_place;              // (size), the rank at each place
    char (*node_of)[NODE_NAME]; // (size), each rank's node; NULL before
} Ranks;

static Ranks ranks = {.size = 1, .local_size = 1, .sharers = 1, .nodes = 1, .per_node = 1}; // this process

static inline bool ranks_lead(void) { return ranks.rank == 0; } // only rank 0 prints, and writes files

// ---------------------------------------------------------------------------------------------------------------------
// This process's rank

typedef struct {
    const char* name;
    int needed;                  // of these variables, to be present: Slurm sets some in a batch script, too
    const char* variable[4];     // rank, size, local rank, local size
} Launcher;

static const Launcher launchers[] = {
    {"torchrun", 2, {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}},
    {"Open MPI's mpirun", 4, {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                              "OMPI_COMM_WORLD_LOCAL_SIZE"}},
    {"MPICH's mpirun", 3, {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}},
    {"srun", 3, {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"}},
};

// The whole text as a number that is not negative; -1: it is none
static inline int count_of_text(const char* text) {
    char* end;
    errno = 0;
    long number = strtol(text, &end, 10);
    return end == text || *end || errno || number < 0 || number > INT_MAX ? -1 : (int)number;
}

// Entry `node` of "2(x3),1", that is 2, 2, 2, 1: the tasks that Slurm starts on each node; 0: no such entry
static inline int slurm_tasks_on(const char* list, int node) {
    while (*list) {
        int tasks = 0, repeats = 1, used = 0;
        if (sscanf(list, "%d%n", &tasks, &used) != 1 || tasks < 1) { return 0; }
        list += used;
        if (sscanf(list, "(x%d)%n", &repeats, &used) == 1) { list += used; }
        if (node < repeats) { return tasks; }
        node -= repeats;
        if (*list++ != ',') { return 0; }
    }
    return 0;
}

// The first host of a list as Slurm writes it: a03b for "a[03-07,9]b,c". false: it does not fit, or there is none
static inline bool slurm_first_host(const char* list, char* host, size_t room) {
    size_t before = strcspn(list, "[,"), number = 0;
    const char *inside = list + before, *behind = inside;
    if (*inside == '[') {
        number = strcspn(++inside, "-,]");
        behind = strchr(inside, ']');
        if (!behind++) { return false; }
    }
    int length = snprintf(host, room, "%.*s%.*s%.*s", (int)before, list, (int)number, inside, (int)strcspn(behind, ","),
                          behind);
    return length > 0 && (size_t)length < room;
}

// Whether as many of its variables are set as it needs
static inline bool launcher_is_there(const Launcher* l) {
    for (int i = 0; i < l->needed; i++) {
        if (!getenv(l->variable[i])) { return false; }
    }
    return true;
}

// Reads one of its variables; *value stays as it is if that is not set.
static inline bool launcher_count(const Launcher* l, int i, int* value, Error* err) {
    const char *text = getenv(l->variable[i]), *node = getenv("SLURM_NODEID");
    bool list = strcmp(l->variable[i], "SLURM_STEP_TASKS_PER_NODE") == 0;
    if (!text) { return true; }
    *value = !list ? count_of_text(text) : node ? slurm_tasks_on(text, count_of_text(node)) : 0;
    return *value >= 0 || set_error(err, "%s=%s, which %s sets, is not a whole number: unset it, or start the program by "
                                    "%s", l->variable[i], text, l->name, l->name);
}

static inline bool launcher_read(const Launcher* l, Ranks* r, Error* err) {
    int rank = 0, size = 1, local_rank = 0, local_size = 0;
    int* const values[] = {&rank, &size, &local_rank, &local_size};
    for (int i = 0; i < 4; i++) {
        if (!launcher_count(l, i, values[i], err)) { return false; }
    }
    if (local_size == 0) { local_rank = 0, local_size = 1; } // unknown
    if (rank >= size || local_rank >= local_size) {
        int at = rank >= size ? 0 : 2;
        return set_error(err, "%s=%d is not below %s=%d: unset them, or start the program by %s", l->variable[at],
                         *values[at], l->variable[at + 1], *values[at + 1], l->name);
    }
    *r = (Ranks){.rank = rank, .size = size, .local_rank = local_rank, .local_size = local_size, .launcher = l->name};
    return true;
}

static inline void node_name(char name[NODE_NAME]) {
    const char* given = getenv("RANKS_NODE");
    if (given && *given) {
        snprintf(name, NODE_NAME, "%s", given);
    } else if (gethostname(name, NODE_NAME) != 0) {
        snprintf(name, NODE_NAME, "this machine");
    }
    name[NODE_NAME - 1] = 0;
}

// By the first launcher that is present
static inline bool ranks_from_environment(Ranks* r, Error* err) {
    const Launcher* found = NULL;
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0] && !found; i++) {
        if (launcher_is_there(&launchers[i])) { found = &launchers[i]; }
    }
    *r = (Ranks){.size = 1, .local_size = 1};
    if (found && !launcher_read(found, r, err)) { return false; }
    if (r->size == 1) { *r = (Ranks){.size = 1, .local_size = 1}; }
    node_name(r->node);
    r->nodes = r->sharers = r->per_node = 1;
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// The ranks' work

// The rank at each place, from the ranks' nodes; returns the number of nodes
static inline int ranks_in_places(char (*node)[NODE_NAME], int size, int* at_place) {
    int placed = 0, nodes = 0;
    for (int first = 0; first < size; first++) {
        bool seen = false;
        for (int i = 0; i < first && !seen; i++) { seen = strcmp(node[i], node[first]) == 0; }
        if (seen) { continue; }
        nodes++;
        for (int i = first; i < size; i++) {
            if (strcmp(node[i], node[first]) == 0) { at_place[placed++] = i; }
        }
    }
    return nodes;
}

// Ranks on each node; 1 if nodes differ in that
static inline int ranks_on_each(char (*node)[NODE_NAME], int size, int nodes) {
    for (int r = 0; r < size; r++) {
        int there = 0;
        for (int i = 0; i < size; i++) { there += strcmp(node[i], node[r]) == 0; }
        if (there * nodes != size) { return 1; }
    }
    return size / nodes;
}

// Nodes, of per_node ranks each
static inline int ranks_nodes(void) { return ranks.size / ranks.per_node; }

typedef struct { int first, count; } Share;

// The share of a place in the A micro-batches of a step
static inline Share share_of(int A, int R, int place) {
    int first = (int)((long long)A * place / R), end = (int)((long long)A * (place + 1) / R);
    return (Share){first, end - first};
}

static inline Share own_share(int A) { return share_of(A, ranks.size, ranks.place); }

// Whether there is work for all of R ranks
static inline bool ranks_have_work(int R, int A, Error* err) {
    if (R <= A) { return true; }
    return set_error(err, "%d ranks, but --grad-accum-steps %d gives work to %d of them. It counts over all ranks here "
                     "(timm: on each): for %d on each say %d", R, A, A, A, R * A);
}

// The share of the ranks' time in which all have work
static inline double ranks_busy(int R, int A) { return (double)A / (R * ((A + R - 1) / R)); }
