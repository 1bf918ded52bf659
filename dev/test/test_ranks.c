// runtime/ranks.h: what the environments of launchers say, and who does what.
#include "../../runtime/ranks.h"
#include "set_environment.h"
#include "test.h"

typedef struct { const char *set, *launcher; int rank, size, local_rank, local_size; } Environment;

#define OPEN_MPI "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=2"
#define SLURM_STEP "SLURM_JOB_ID=7 SLURM_NTASKS=5 SLURM_NODEID=1 SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=5 SLURM_LOCALID=1 "

static void test_launchers(void) {
    const Environment known[] = {
        {"", NULL, 0, 1, 0, 1},
        {"RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 OMP_NUM_THREADS=1", "torchrun", 5, 8, 1, 4},
        {"RANK=5 WORLD_SIZE=8", "torchrun", 5, 8, 0, 1},
        {"RANK=5", NULL, 0, 1, 0, 1},
        {"RANK=0 WORLD_SIZE=1", NULL, 0, 1, 0, 1},
        {OPEN_MPI, "Open MPI's mpirun", 1, 4, 0, 2},
        {OPEN_MPI " RANK=0 WORLD_SIZE=2", "torchrun", 0, 2, 0, 1},
        {"OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4", NULL, 0, 1, 0, 1},
        {"PMI_RANK=2 PMI_SIZE=3 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", "MPICH's mpirun", 2, 3, 1, 2},
        {"PMI_RANK=2 PMI_SIZE=3 MPI_LOCALRANKID=1", "MPICH's mpirun", 2, 3, 0, 1},
        {SLURM_STEP "SLURM_STEP_TASKS_PER_NODE=2(x2),1", "srun", 3, 5, 1, 2},
        {SLURM_STEP "SLURM_STEP_TASKS_PER_NODE=odd", "srun", 3, 5, 0, 1},
        {SLURM_STEP OPEN_MPI, "Open MPI's mpirun", 1, 4, 0, 2},
        // a plain command in a batch script of two tasks: not one of two
        {"SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0", NULL, 0, 1, 0, 1},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const Environment* e = &known[i];
        Ranks r;
        Error err = {""};
        set_all(e->set);
        bool ok = ranks_from_environment(&r, &err);
        CHECK(ok && r.rank == e->rank && r.size == e->size && r.local_rank == e->local_rank &&
              r.local_size == e->local_size,
              "%s: %d of %d, here %d of %d; %s", e->set, r.rank, r.size, r.local_rank, r.local_size, err.text);
        CHECK(!r.launcher == !e->launcher && (!r.launcher || strcmp(r.launcher, e->launcher) == 0), "%s: by %s", e->set,
              r.launcher ? r.launcher : "none");
    }
}

static void test_refused(void) {
    const char* const refused[][2] = {
        {"RANK=two WORLD_SIZE=4", "RANK=two, which torchrun sets, is not a whole number"},
        {"RANK=-1 WORLD_SIZE=4", "RANK=-1, which torchrun sets, is not a whole number"},
        {"RANK=1 WORLD_SIZE=99999999999999999999", "WORLD_SIZE=99999999999999999999, which"},
        {"RANK=1 WORLD_SIZE=", "WORLD_SIZE=, which torchrun sets"},
        {"RANK=4 WORLD_SIZE=4", "RANK=4 is not below WORLD_SIZE=4: unset them, or start the program by torchrun"},
        {"RANK=0 WORLD_SIZE=0", "RANK=0 is not below WORLD_SIZE=0"},
        {"RANK=1 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=2", "LOCAL_RANK=2 is not below LOCAL_WORLD_SIZE=2"},
        {"PMI_RANK=3 PMI_SIZE=3 MPI_LOCALRANKID=0", "start the program by MPICH's mpirun"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        Ranks r;
        Error err = {""};
        set_all(refused[i][0]);
        bool ok = ranks_from_environment(&r, &err);
        CHECK(!ok && strstr(err.text, refused[i][1]), "%s: %s", refused[i][0], ok ? "accepted" : err.text);
    }
    Error err;
    CHECK(!ranks_have_work(8, 2, &err) &&
          strstr(err.text, "8 ranks, but --grad-accum-steps 2 gives work to 2 of them. It counts over all ranks here (timm: on each): for 2 on each say 16"), "%s", err.text);
    CHECK(ranks_have_work(8, 8, &err) && ranks_have_work(3, 8, &err), "%s", err.text);
}

static void test_lists(void) {
    const struct { const char* list; int node, tasks; } tasks[] = {
        {"2", 0, 2}, {"2", 1, 0}, {"2(x3),1", 2, 2}, {"2(x3),1", 3, 1}, {"2(x3),1", 4, 0}, {"1,4(x2),7", 1, 4}, {"1,4(x2),7", 3, 7},
        {"", 0, 0}, {"x", 0, 0}, {"2;3", 1, 0}, {"0", 0, 0},
    };
    for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++) {
        int got = slurm_tasks_on(tasks[i].list, tasks[i].node);
        CHECK(got == tasks[i].tasks, "node %d of \"%s\" has %d tasks", tasks[i].node, tasks[i].list, got);
    }
    const char* const hosts[][2] = {
        {"a", "a"}, {"a,b", "a"}, {"a[03-07,9]b", "a03b"}, {"a[03-07,9]b,c", "a03b"}, {"n[7]", "n7"}, {"n-1.x,n-2.x", "n-1.x"},
        {"c,a[1-2]", "c"}, {"a[1-2],b[3]", "a1"},
    };
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char host[32] = "";
        CHECK(slurm_first_host(hosts[i][0], host, sizeof host) && strcmp(host, hosts[i][1]) == 0, "%s: %s", hosts[i][0],
              host);
    }
    char host[8];
    CHECK(!slurm_first_host("a[1-2", host, sizeof host) && !slurm_first_host("", host, sizeof host), "no host");
    CHECK(!slurm_first_host("a-long-name", host, sizeof host), "a name without room");
}

static void test_places(void) {
    char nodes[7][NODE_NAME] = {"b", "a", "b", "c", "a", "b", "c"};
    const int want[] = {0, 2, 5, 1, 4, 3, 6};
    int at_place[7];
    CHECK(ranks_in_places(nodes, 7, at_place) == 3, "3 nodes");
    CHECK(memcmp(at_place, want, sizeof want) == 0, "%d %d %d %d %d %d %d", at_place[0], at_place[1], at_place[2],
          at_place[3], at_place[4], at_place[5], at_place[6]);
    Ranks r;
    Error err;
    char host[NODE_NAME];
    set_all("");
    ranks_from_environment(&r, &err);
    gethostname(host, sizeof host);
    CHECK(strcmp(r.node, host) == 0, "the node is %s", r.node);
    set_all("RANKS_NODE=other");
    ranks_from_environment(&r, &err);
    CHECK(strcmp(r.node, "other") == 0, "the node is %s", r.node);
}

static void test_shares(void) {
    for (int A = 1; A <= 40; A++) {
        for (int R = 1; R <= A; R++) {
            int at = 0, least = A, most = 0;
            for (int p = 0; p < R; p++) {
                Share s = share_of(A, R, p);
                CHECK(s.first == at, "place %d of %d begins with micro-batch %d of %d", p, R, s.first, A);
                at += s.count;
                least = s.count < least ? s.count : least;
                most = s.count > most ? s.count : most;
            }
            CHECK(at == A && least >= 1 && most <= least + 1, "%d micro-batches on %d ranks: %d to %d each", A, R,
                  least, most);
            CHECK_NEAR(ranks_busy(R, A), (double)A / (R * most), 1e-12, "the share of the time in which all have work");
        }
    }
}

int main(void) {
    test_launchers();
    test_refused();
    test_lists();
    test_places();
    test_shares();
    return tests_finish();
}
