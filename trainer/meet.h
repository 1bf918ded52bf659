// How the ranks of a run come together: each finds out which one it is, they get in touch, check that they belong
// together, and go on with what rank 0 read. Only rank 0 reads flags and the files of runs, prints, and writes. A
// process that is alone does nothing here.
#pragma once
#include "../runtime/exchange.h"
#include "../runtime/hash.h"
#include "../runtime/threads.h"
#include "../runtime/tree.h"
#include "agree.h"

// ---- Before they meet

static bool is_asked_for(int argc, char** argv, const char* name) {
    char given[OPTION_TEXT_SIZE];
    return options_peek(config_table, CONFIG_OPTIONS, argc, argv, name, given) && strcmp(given, "off") != 0;
}

// --rank-timeout, needed before flags are read; what is wrong with it is reported when they are
static int given_timeout(int argc, char** argv) {
    char given[OPTION_TEXT_SIZE];
    bool is_given = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "rank-timeout", given);
    int seconds = is_given ? count_of_text(given) : 0;
    return seconds > 0 ? seconds : count_of_text(config_option("rank-timeout")->initial);
}

// Until places are known, messages are addressed to ranks.
RUNS_ONCE static void get_in_touch(int argc, char** argv) {
    Error err;
    stop_on_signal(SIGUSR1); // it would end a rank that has not begun to train yet
    watchdog_begin(given_timeout(argc, argv));
    ranks.at_place = alloc_array(int, ranks.size, "ranks");
    for (int r = 0; r < ranks.size; r++) { ranks.at_place[r] = r; }
    ranks.place = ranks.rank;
    if (!engine_begin(program_name, &err)) { leave_together(EXIT_USAGE, err.text); }
    watchdog_meet();
}

// From here on, this stands before what the process reports.
static void name_rank(void) {
    snprintf(program_rank, sizeof program_rank, "rank %d on %.40s: ", ranks.rank, ranks.node);
}

// Finds out which rank this process is. All but rank 0 are silent from here on, and end if rank 0 only has something to
// print. Otherwise the ranks get in touch before anything can fail: launchers end all of them once one that was in
// touch ends. A terminal that rank 0 sees is the launcher's: what is printed may go elsewhere from there.
RUNS_ONCE static void begin_rank(int argc, char** argv) {
    Error err;
    if (!ranks_from_environment(&ranks, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (ranks.size == 1) { return; }
    bool tells = is_asked_for(argc, argv, "help") || is_asked_for(argc, argv, "list") ||
                 is_asked_for(argc, argv, "version") || is_asked_for(argc, argv, "dry-run");
    setenv("TERM", "dumb", 1);
    if (!ranks_lead()) {
        if (tells || !freopen("/dev/null", "w", stdout)) { exit(tells ? 0 : EXIT_RUN_TIME); }
        program_patience = 5;
        name_rank();
    }
    if (!tells) { get_in_touch(argc, argv); }
}

// Refuses what is for one process only.
RUNS_ONCE static void refuse_together(const Config* c) {
    const struct { const char* name; bool on; } single[] = {
        {"gradcheck", c->gradcheck != 0}, {"dump-state", *c->dump_state != 0}, {"overfit-batch", c->overfit_batch != 0},
        {"show-batch", *c->show_batch != 0}, {"classify", c->classify.count > 0},
        {"export", *c->export_to != 0}, {"tune-products", c->tune_products != 0}};
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++) {
        if (!single[i].on) { continue; }
        fail(EXIT_USAGE, "--%s is for one process, and %d were started: leave %s out", single[i].name, ranks.size,
             ranks.launcher);
    }
}

// ---- They meet

enum { HANDSHAKE = 1, READ_BYTES = 1 << 14 };

typedef struct {
    uint64_t version, program, arguments, cores; // all but the version are hashes; cores: those that it may run on
    uint64_t launch;                             // key of the engine
    char node[NODE_NAME], processor[PROCESSOR_NAME];
} Greeting;

static uint64_t hash_of_program(void) {
    static char room[READ_BYTES];
    uint64_t hash = hash_start;
    FILE* in = fopen("/proc/self/exe", "rb");
    for (size_t got; in && (got = fread(room, 1, sizeof room, in)) > 0;) { hash = hash_bytes(hash, room, got); }
    if (in) { fclose(in); }
    return hash;
}

static Greeting greeting(char** argv) {
    Greeting g = {.version = HANDSHAKE, .program = hash_of_program(), .arguments = hash_start};
    for (char** word = argv + 1; *word; word++) { g.arguments = hash_bytes(g.arguments, *word, strlen(*word) + 1); }
    memcpy(g.node, ranks.node, sizeof g.node);
    g.launch = engine_key();
    processor_name(g.processor);
    size_t mask_bytes;
    const void* mask = threads_mask(&mask_bytes);
    g.cores = hash_bytes(hash_start, mask, mask_bytes);
    return g;
}

// A rank that differs from rank 0 ends all of them; a different processor is only noted.
static void compare_greetings(const Greeting* all) {
    const Greeting* lead = &all[0];
    Error err;
    for (int r = 1; r < ranks.size; r++) {
        const Greeting* g = &all[r];
        if (g->launch != lead->launch) {
            set_error(&err, "another run uses %s: set MASTER_ADDR and another MASTER_PORT", getenv("NCCL_COMM_ID"));
            leave_together(EXIT_USAGE, err.text);
        }
        const char* other = g->version != lead->version || g->program != lead->program ? "build" : NULL;
        if (other) {
            set_error(&err, "rank %d on %s runs another build of %s than rank 0: copy the same program to every node",
                      r, g->node, program_name);
        } else if (g->arguments != lead->arguments) {
            other = "arguments";
            set_error(&err, "rank %d on %s was started with other arguments than rank 0: give all the same", r,
                      g->node);
        }
        if (other) { leave_together(EXIT_USAGE, err.text); }
    }
    for (int r = 1; r < ranks.size; r++) {
        if (strcmp(all[r].processor, lead->processor) == 0) { continue; }
        printf("note       rank %d on %s has another processor (%s) than rank 0 (%s): the same bits come again from this "
               "mixture alone\n", r, all[r].node, all[r].processor, lead->processor);
        return;
    }
}

static void take_places(const Greeting* all) {
    char(*node)[NODE_NAME] = (char(*)[NODE_NAME])alloc_array(char, (size_t)ranks.size * NODE_NAME, "ranks");
    for (int r = 0; r < ranks.size; r++) { memcpy(node[r], all[r].node, NODE_NAME); }
    ranks.nodes = ranks_in_places(node, ranks.size, ranks.at_place);
    ranks.per_node = ranks_on_each(node, ranks.size, ranks.nodes);
    ranks.local_size = ranks.sharers = 0;
    for (int r = 0; r < ranks.size; r++) {
        if (ranks.at_place[r] == ranks.rank) { ranks.place = r; }
        if (strcmp(node[r], ranks.node) != 0) { continue; }
        if (r == ranks.rank) { ranks.local_rank = ranks.local_size; }
        ranks.local_size++;
        ranks.sharers += all[r].cores == all[ranks.rank].cores;
    }
    ranks.node_of = node;
}

// The ranks check that they belong together, and go on with rank 0's configuration and what it read from its files.
RUNS_ONCE static void meet(char** argv, Config* config, Origin* origin) {
    if (ranks.size == 1 || config->dry_run) { return; }
    if (ranks_lead()) { refuse_together(config); }
    wait_on("what they are", -1);
    Greeting* all = alloc_array(Greeting, ranks.size, "ranks");
    all[ranks.rank] = greeting(argv);
    gather_all(all, sizeof *all);
    compare_greetings(all);
    take_places(all);
    free(all);
    wait_on("what rank 0 has read", -1);
    lead_tells(config, sizeof *config);
    Origin told = *origin;
    lead_tells(&told, sizeof told);
    name_rank();
    if (ranks_lead()) { return; }
    told.class_names = told.class_ids = NULL;
    told.knows_data = false; // rank 0 compares them for all
    *origin = told;
}

// Threads of this rank: --threads, or what OpenMP is told, or its share of the cores that several ranks may run on; 0:
// all cores
RUNS_ONCE static int threads_of_rank(const Config* c) {
    if (c->threads || ranks.size == 1 || getenv("OMP_NUM_THREADS")) { return c->threads; }
    int share = core_count() / ranks.sharers;
    return share > 1 ? share : 1;
}

// How much is sent, as a multiple of the least that so many ranks need
static double pieces_per_rank(int A) {
    int pieces = 0;
    for (int p = 0; p < ranks.size; p++) {
        Share share = share_of(A, ranks.size, p);
        pieces += pieces_of(share.first, share.count).count;
    }
    return (double)pieces / ranks.size;
}

RUNS_ONCE static void print_ranks(const Config* c, int threads) {
    int cores = core_count(), there = (int)sysconf(_SC_NPROCESSORS_ONLN), A = c->grad_accum_steps;
    double busy = ranks_busy(ranks.size, A), pieces = pieces_per_rank(A);
    if (ranks.size == 1) { return; }
    printf("ranks      %d on %d node%s, by %s; %d thread%s each\n", ranks.size, ranks.nodes, ranks.nodes > 1 ? "s" : "",
           engine_name(), threads, threads > 1 ? "s" : "");
    if (!*c->eval && busy < 1) {
        printf("note       %d micro-batches on %d ranks: at most %.0f %% of the ranks' time is put to use\n", A,
               ranks.size, 100 * busy);
    }
    if (!*c->eval && pieces > 1.5) {
        printf("note       %d micro-batches on %d ranks: %.1f times the traffic that so many ranks need at least\n", A,
               ranks.size, pieces);
    }
    if (ranks.sharers < ranks.local_size && cores * ranks.local_size < there) {
        printf("note       each rank is bound to %d of %d cores: mpirun --bind-to none, or --map-by numa:PE=%d\n",
               cores, there, there / ranks.local_size);
    }
}

// Checks that all ranks have the images that rank 0 has.
RUNS_ONCE static void compare_data(const Trainer* t) {
    typedef struct { char train[FINGERPRINT_SIZE], test[FINGERPRINT_SIZE]; } Data;
    Error err;
    if (ranks.size == 1) { return; }
    wait_on("what data they have", -1);
    Data* all = alloc_array(Data, ranks.size, "data sets");
    dataset_fingerprint(&t->train, all[ranks.place].train);
    dataset_fingerprint(&t->test, all[ranks.place].test);
    gather_all(all, sizeof *all);
    for (int p = 1; p < ranks.size; p++) {
        if (strcmp(all[p].train, all[0].train) == 0 && strcmp(all[p].test, all[0].test) == 0) { continue; }
        set_error(&err, "rank %d on %s has other images of --data %s than rank 0: copy the same files to every node",
                  ranks.at_place[p], ranks.node_of[ranks.at_place[p]], t->model.config.data);
        leave_together(EXIT_RUN_TIME, err.text);
    }
    free(all);
}
