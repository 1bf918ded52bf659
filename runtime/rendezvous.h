// Where the ranks of a launch find each other without the launcher's library: a host and a port that each of them
// derives from its environment; and a key, by which ranks of different launches are noticed.
//
//     MASTER_ADDR:MASTER_PORT     as set by torchrun, or mpirun -x; the next port if torchrun's agent has this one
//     127.0.0.1:port              if all ranks are on one node
//     first host of the step:port under Slurm
//
// Such a port is derived from the key, and below those that systems assign themselves.
#pragma once
#include "hash.h"
#include "ranks.h"

enum { FIRST_PORT = 20000, PORTS = 12000 };

static inline uint64_t hash_variable(uint64_t hash, const char* name) {
    const char* value = getenv(name);
    return value ? hash_bytes(hash, value, strlen(value) + 1) : hash_bytes(hash, "", 1);
}

// Hashes the parent process and its start time, which the ranks of one node have in common.
static inline uint64_t hash_parent(uint64_t hash) {
    char path[64], text[1024] = "";
    pid_t parent = getppid();
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)parent);
    FILE* in = fopen(path, "r");
    if (in && !fgets(text, sizeof text, in)) { text[0] = 0; }
    if (in) { fclose(in); }
    const char* behind_name = strrchr(text, ')'); // which may hold anything; the start time is 20 fields on
    if (behind_name) {
        sscanf(behind_name, ") %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &start);
    }
    hash = hash_bytes(hash, &parent, sizeof parent);
    return hash_bytes(hash, &start, sizeof start);
}

// The key of this user's launch, the same on all of its ranks
static inline uint64_t launch_key(void) {
    static const char* const of_launcher[][3] = {
        {"PMIX_NAMESPACE", "PMIX_NAMESPACE", "PMIX_NAMESPACE"},
        {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"},
        {"SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"},
        {"MASTER_ADDR", "MASTER_PORT", "MASTER_PORT"}};
    uid_t user = getuid();
    uint64_t key = hash_bytes(hash_start, &user, sizeof user);
    for (size_t i = 0; i < sizeof of_launcher / sizeof of_launcher[0]; i++) {
        if (!getenv(of_launcher[i][0])) { continue; }
        for (int k = 0; k < 3; k++) { key = hash_variable(key, of_launcher[i][k]); }
        return key;
    }
    return hash_parent(key);
}

// MASTER_PORT, or the port used instead; -1: it is no port
static inline int master_port(void) {
    const char *given = getenv("MASTER_PORT"), *agent = getenv("TORCHELASTIC_USE_AGENT_STORE");
    int port = given ? count_of_text(given) : -1;
    port += port >= 0 && agent && strcmp(agent, "True") == 0;
    return port > 0 && port < 65536 ? port : -1;
}

// "host:port"
static inline bool rendezvous(const Ranks* r, char* place, size_t room, Error* err) {
    const char *master = getenv("MASTER_ADDR"), *hosts = getenv("SLURM_STEP_NODELIST");
    int port = master ? master_port() : FIRST_PORT + (int)(launch_key() % PORTS), length;
    char host[256];
    if (master && *master) {
        length = snprintf(place, room, strchr(master, ':') ? "[%s]:%d" : "%s:%d", master, port);
    } else if (r->local_size == r->size) {
        length = snprintf(place, room, "127.0.0.1:%d", port);
    } else if (hosts && slurm_first_host(hosts, host, sizeof host)) {
        length = snprintf(place, room, "%s:%d", host, port);
    } else {
        return set_error(err,
                         "%d ranks on several nodes do not know where to meet: set MASTER_ADDR to the host of rank 0 "
                         "and MASTER_PORT to 29500, say, for all of them (mpirun -x MASTER_ADDR=... -x "
                         "MASTER_PORT=29500)",
                         r->size);
    }
    if (port < 0) { return set_error(err, "MASTER_ADDR=%s without a MASTER_PORT: set both, or neither", master); }
    return (length > 0 && (size_t)length < room) || set_error(err, "MASTER_ADDR is too long");
}
