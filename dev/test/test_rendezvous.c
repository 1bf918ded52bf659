// runtime/rendezvous.h: where the ranks of a launch meet, by the environments of launchers, and the key of a launch.
#include "../../runtime/rendezvous.h"
#include "set_environment.h"
#include "test.h"
#include <sys/wait.h>

static uint64_t key_of(const char* variables) {
    set_all(variables);
    return launch_key();
}

static void test_places(void) {
    const Ranks one_node = {.rank = 1, .size = 2, .local_rank = 1, .local_size = 2}, two_nodes = {.size = 4, .local_size = 2};
    const struct { const char* set; const Ranks* ranks; const char *place, *error; } known[] = {
        {"MASTER_ADDR=a MASTER_PORT=29500", &one_node, "a:29500", ""},
        {"MASTER_ADDR=a MASTER_PORT=29500 TORCHELASTIC_USE_AGENT_STORE=True", &two_nodes, "a:29501", ""},
        {"MASTER_ADDR=a MASTER_PORT=29500 TORCHELASTIC_USE_AGENT_STORE=False", &two_nodes, "a:29500", ""},
        {"MASTER_ADDR=fe80::1 MASTER_PORT=7", &two_nodes, "[fe80::1]:7", ""},
        {"MASTER_ADDR=a MASTER_PORT=29500 SLURM_STEP_NODELIST=b", &two_nodes, "a:29500", ""},
        {"MASTER_ADDR=a", &one_node, NULL, "MASTER_ADDR=a without a MASTER_PORT: set both, or neither"},
        {"MASTER_ADDR=a MASTER_PORT=70000", &one_node, NULL, "without a MASTER_PORT"},
        {"MASTER_ADDR=a MASTER_PORT=x", &one_node, NULL, "without a MASTER_PORT"},
        {"", &two_nodes, NULL, "4 ranks on several nodes do not know where to meet: set MASTER_ADDR to the host of rank 0"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char place[64] = "";
        Error err = {""};
        set_all(known[i].set);
        bool ok = rendezvous(known[i].ranks, place, sizeof place, &err);
        CHECK(ok == !!known[i].place && (!ok || strcmp(place, known[i].place) == 0), "%s: %s %s", known[i].set, place,
              err.text);
        CHECK(ok || strstr(err.text, known[i].error), "%s: %s", known[i].set, err.text);
    }
}

// By a key, below the ports that systems give out by themselves
static void test_ports(void) {
    const Ranks one_node = {.size = 2, .local_size = 2}, two_nodes = {.size = 4, .local_size = 2};
    char place[64], again[64], host[64];
    int port = 0;
    Error err;
    set_all("PMIX_NAMESPACE=1234");
    CHECK(rendezvous(&one_node, place, sizeof place, &err) && sscanf(place, "127.0.0.1:%d", &port) == 1, "%s", place);
    CHECK(port >= 20000 && port < 32000, "port %d", port);
    rendezvous(&one_node, again, sizeof again, &err);
    CHECK(strcmp(place, again) == 0, "%s, then %s", place, again);
    set_all("SLURM_JOB_ID=5 SLURM_STEP_ID=1 SLURM_STEP_NODELIST=node[07-08]");
    CHECK(rendezvous(&two_nodes, place, sizeof place, &err) && sscanf(place, "%63[^:]:%d", host, &port) == 2 &&
          strcmp(host, "node07") == 0 && port >= 20000 && port < 32000, "%s", place);
}

static void test_keys(void) {
    const char* const launches[] = {
        "PMIX_NAMESPACE=a", "PMIX_NAMESPACE=b", "TORCHELASTIC_RUN_ID=a", "TORCHELASTIC_RUN_ID=a TORCHELASTIC_RESTART_COUNT=1",
        "TORCHELASTIC_RUN_ID=a TORCHELASTIC_RESTART_COUNT=11", "TORCHELASTIC_RUN_ID=a1 TORCHELASTIC_RESTART_COUNT=1",
        "SLURM_JOB_ID=1 SLURM_STEP_ID=0", "SLURM_JOB_ID=1 SLURM_STEP_ID=1", "SLURM_JOB_ID=1 SLURM_STEP_ID=1 SLURM_RESTART_COUNT=1",
        "MASTER_ADDR=a MASTER_PORT=1", "MASTER_ADDR=a MASTER_PORT=2", ""};
    int count = sizeof launches / sizeof launches[0];
    for (int i = 0; i < count; i++) {
        uint64_t key = key_of(launches[i]);
        CHECK(key == key_of(launches[i]), "another key for the same launch: %s", launches[i]);
        for (int j = 0; j < i; j++) {
            CHECK(key != key_of(launches[j]), "one key for %s and %s", launches[i], launches[j]);
        }
    }
}

// The key that a child has, or that a child of a child has
static uint64_t key_of_child(int generations) {
    int ends[2];
    uint64_t key = 0;
    CHECK(pipe(ends) == 0, "no pipe");
    fflush(stdout);
    for (int i = 0; i < generations; i++) {
        pid_t child = fork();
        if (child > 0 && i > 0) { _exit(waitpid(child, NULL, 0) < 0); }
        if (child > 0) {
            CHECK(read(ends[0], &key, sizeof key) == sizeof key, "no key");
            waitpid(child, NULL, 0);
            close(ends[0]), close(ends[1]);
            return key;
        }
    }
    key = launch_key();
    _exit(write(ends[1], &key, sizeof key) != sizeof key);
}

// Without any launcher's variables it is the process that started them
static void test_parent(void) {
    set_all("");
    uint64_t first = key_of_child(1), second = key_of_child(1), other = key_of_child(2);
    CHECK(first == second, "two children of one process have two keys");
    CHECK(first != other, "children of two processes have one key");
    CHECK(first != launch_key(), "a child has its parent's key");
}

int main(void) {
    test_places();
    test_ports();
    test_keys();
    test_parent();
    return tests_finish();
}
