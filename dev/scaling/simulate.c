// The duration of a training step on several ranks: the exchange of gradients and parameters is the trainer's own
// (model/owners.h), with sleeps in place of kernels. Sleeping ranks leave the cores to each other, so that a few cores
// can stand for as many machines as their network allows, and for machines of any speed. Beside the measurement it
// prints the prediction of step_model() below, which then extends to more nodes than there are.
//
//     mpirun -n R simulate run FORWARD BACKWARD UPDATE STEPS one|two [--model vit-tiny] [trainer's flags]
//     simulate table FORWARD BACKWARD UPDATE RANKS AMONG WITHIN LATENCY [trainer's flags]
//
// FORWARD, BACKWARD: ms per micro-batch, spread over the blocks; UPDATE: ms. one, two: levels of the exchange. For a
// table: RANKS on each node, GB/s out of a node and out of a rank within its node, and µs of the shortest exchange.
#include "../../model/owners.h"
#include "../../model/settings.h"
#include "../../runtime/clock.h"

typedef struct { double forward, backward, update; } Work;   // seconds
typedef struct { double among, within, latency; } Net;       // bytes per second out of a node, out of a rank; seconds
typedef struct { int nodes, per_node, levels, micro_batches; } Shape; // micro_batches: of each rank
typedef struct { double step, compute, exchange; } StepTime; // seconds: in all, without other ranks, in messages

// ---------------------------------------------------------------------------------------------------------------------
// The model

// Seconds for a bucket's messages within a node and among nodes, one way, if every rank has one piece of it
typedef struct { double within, among; } BucketTime;

static BucketTime bucket_time(const Buckets* buckets, int b, Shape s, Net net) {
    double bytes = sizeof(float) * (double)(buckets->first[b + 1] - buckets->first[b]);
    double g = s.per_node, M = s.nodes, R = g * M;
    double within = s.levels == 2 ? (g - 1) / g : (g - 1) / R;       // out of a rank
    double among = s.levels == 2 ? (M - 1) / M : g * (R - g) / R;    // out of a node
    return (BucketTime){within * bytes / net.within, among * bytes / net.among};
}

static double later(double a, double b) { return a > b ? a : b; }

// Messages within nodes and among them are sequential. Parameters leave their owners when the update is done, as on
// GPUs (on CPUs each bucket's leave when it is updated, a little sooner), first block first, and a block waits for its
// bucket; gradients leave when their bucket's first block is done.
static StepTime step_model(const ParameterTable* table, const Buckets* buckets, Shape s, Work work, Net net) {
    int L = table->blocks;
    double forward = work.forward / L, backward = work.backward / L, whole = work.forward + work.backward;
    double time = 0, within = 0, among = 0;
    StepTime t = {.compute = s.micro_batches * whole + work.update};
    for (int l = 0; l < L; l++) {
        int b = buckets->of_segment[l + 1];
        for (int next = l == 0 ? 0 : buckets->of_segment[l] + 1; next <= b; next++) { // the first to need it
            BucketTime gather = bucket_time(buckets, next, s, net);
            among += gather.among;
            within = later(within, among) + gather.within;
            t.exchange += gather.among + gather.within;
        }
        time = later(time, within) + forward;
    }
    time += (s.micro_batches - 1) * whole;
    within = among = 0;
    for (int l = L - 1; l >= 0; l--) {
        int b = buckets->of_segment[l + 1], below = l > 0 ? buckets->of_segment[l] : -1;
        time += backward;
        for (; b > below; b--) { // the last one contains the front, or is the front
            BucketTime sum = bucket_time(buckets, b, s, net);
            within = later(within, time) + sum.within;
            among = later(among, within) + sum.among;
            t.exchange += sum.within + sum.among;
        }
    }
    t.step = later(time, among) + net.latency + work.update;
    return t;
}

// ---------------------------------------------------------------------------------------------------------------------
// The ranks

static void say_and_leave(const char* why) {
    if (ranks_lead()) { fail(EXIT_USAGE, "%s", why); }
    sleep(2);
    exit(EXIT_USAGE);
}

static void meet(void) {
    Error err;
    if (!ranks_from_environment(&ranks, &err)) { say_and_leave(err.text); }
    if (ranks.size == 1) { say_and_leave("simulate run is for several processes: start it by mpirun"); }
    ranks.at_place = alloc_array(int, ranks.size, "ranks");
    for (int r = 0; r < ranks.size; r++) { ranks.at_place[r] = r; }
    ranks.place = ranks.rank;
    if (!engine_begin("simulate", &err)) { say_and_leave(err.text); }
    char(*node)[NODE_NAME] = (char(*)[NODE_NAME])alloc_array(char, (size_t)ranks.size * NODE_NAME, "ranks");
    memcpy(node[ranks.rank], ranks.node, NODE_NAME);
    gather_all(node, NODE_NAME);
    ranks.nodes = ranks_in_places(node, ranks.size, ranks.at_place);
    ranks.per_node = ranks_on_each(node, ranks.size, ranks.nodes);
    for (int p = 0; p < ranks.size; p++) { ranks.place = ranks.at_place[p] == ranks.rank ? p : ranks.place; }
    free(node);
}

// The maximum over the ranks, known to all
static double slowest(double seconds) {
    double* all = alloc_array(double, ranks.size, "times");
    all[ranks.place] = seconds;
    gather_all(all, sizeof *all);
    for (int p = 0; p < ranks.size; p++) { seconds = later(seconds, all[p]); }
    free(all);
    return seconds;
}

// Seconds for every rank to send so many bytes to the rank so many places on, and to receive as many
static double shift_time(char* room, size_t bytes, int on) {
    Message out = {(ranks.place + on) % ranks.size, room, bytes};
    Message in = {(ranks.place + ranks.size - on) % ranks.size, room + bytes, bytes};
    slowest(0);
    double start = seconds_now();
    exchange(&out, 1, &in, 1);
    return slowest(seconds_now() - start);
}

// Measures the network with plain transfers, of all nodes, or all ranks of each node, at once.
static Net measure_net(void) {
    enum { BYTES = 4 << 20, ROUNDS = 20 };
    int g = ranks.per_node;
    char* room = (char*)alloc_bytes(2 * BYTES, "a transfer");
    Net net = {.among = INFINITY, .within = INFINITY};
    for (int warm = 1; warm >= 0; warm--) {
        double start = seconds_now();
        for (int i = 0; i < ROUNDS; i++) { slowest(0); }
        net.latency = (seconds_now() - start) / ROUNDS;
        if (ranks.nodes > 1) { net.among = g * (double)BYTES / shift_time(room, BYTES, g); }
        if (g > 1 && ranks.nodes == 1) { net.within = BYTES / shift_time(room, BYTES, 1); }
        if (g > 1 && ranks.nodes > 1) { // places go around within the node
            int first = ranks.place / g * g, j = ranks.place - first;
            Message out = {first + (j + 1) % g, room, BYTES}, in = {first + (j + g - 1) % g, room + BYTES, BYTES};
            slowest(0);
            start = seconds_now();
            exchange(&out, 1, &in, 1);
            net.within = BYTES / slowest(seconds_now() - start);
        }
    }
    free(room);
    lead_tells(&net, sizeof net);
    return net;
}

// ---------------------------------------------------------------------------------------------------------------------
// A step: the calls of train_vit.c, in its order

typedef struct {
    ParameterTable table;
    GradientSum sum;
    Owners owners;
    float *params, *grads;
} Model;

// Stands for a block's kernels, after each of which transfers under way are moved on.
static void sleep_a_block(Model* m, double seconds) {
    enum { KERNELS = 10 };
    double end = seconds_now() + seconds;
    for (int left = KERNELS; left > 0; left--) {
        double pause = (end - seconds_now()) / left;
        if (pause > 0) { usleep((useconds_t)(1e6 * pause)); }
        owners_poll(&m->owners);
    }
}

static void simulated_forward(Model* m, Work work) {
    int L = m->table.blocks;
    for (int segment = 0; segment < L + 2; segment++) {
        owners_poll(&m->owners);
        bucket_arrive(&m->owners, segment);
        if (segment > 0 && segment <= L) { sleep_a_block(m, work.forward / L); }
    }
}

static void simulated_backward(Model* m, Work work) {
    int L = m->table.blocks;
    for (int segment = L + 1; segment >= 0; segment--) {
        if (segment > 0 && segment <= L) { sleep_a_block(m, work.backward / L); }
        bucket_depart(&m->owners, segment);
    }
}

static void simulated_update(Model* m, Work work) {
    const Buckets* buckets = &m->owners.buckets;
    for (int b = 0; b < buckets->count; b++) {
        double share = (double)(buckets->first[b + 1] - buckets->first[b]) / (double)m->table.total;
        usleep((useconds_t)(1e6 * work.update * share));
        bucket_gather(&m->owners, b, m->params);
    }
}

static void simulated_step(Model* m, Work work) {
    gradient_sum_begin(&m->sum);
    for (int i = 0; i < m->sum.own.count; i++) {
        m->grads = gradient_sum_next(&m->sum, m->grads);
        simulated_forward(m, work);
        if (i + 1 == m->sum.own.count) { owners_close(&m->owners, &m->sum, m->grads); }
        simulated_backward(m, work);
    }
    owners_finish(&m->owners, m->grads);
    share_facts(&m->owners, &m->sum);
    owners_norm(&m->owners);
    simulated_update(m, work);
}

static int compare_doubles(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

// The first two steps warm up.
static double median_step(Model* m, Work work, int steps) {
    enum { WARM = 2 };
    double* time = alloc_array(double, steps, "times");
    for (int i = 0; i < steps + WARM; i++) {
        double start = seconds_now();
        simulated_step(m, work);
        if (i >= WARM) { time[i - WARM] = seconds_now() - start; }
    }
    owners_settle(&m->owners);
    qsort(time, (size_t)steps, sizeof *time, compare_doubles);
    double median = time[steps / 2];
    free(time);
    return median;
}

static Model make_model(const Config* c) {
    Model m = {0};
    Error err;
    if (!parameter_table(&m.table, c, dims_of(c, 1000), &err)) { say_and_leave(err.text); }
    m.sum = gradient_sum_plan(m.table.total, c->grad_accum_steps);
    m.owners = owners_plan(&m.table, c->grad_accum_steps);
    return m;
}

static void run(Work work, int steps, int levels, int argc, char** argv) {
    Config c;
    Error err;
    meet();
    if (!config_parse(&c, NULL, argc, argv, &err)) { say_and_leave(err.text); }
    Net net = measure_net();
    Shape shape = {ranks.nodes, ranks.per_node, levels, c.grad_accum_steps / ranks.size};
    if (levels == 1) { ranks.per_node = 1; }
    Model m = make_model(&c);
    owners_allocate(&m.owners);
    m.params = alloc_floats(m.table.total, "parameters");
    m.grads = alloc_floats(m.table.total, "gradients");
    double measured = median_step(&m, work, steps);
    StepTime t = step_model(&m.table, &m.owners.buckets, shape, work, net);
    if (ranks_lead()) {
        printf("%d x %d %s | %5.1f %7.0f %5.0f | %6.0f %6.0f | %6.0f %6.0f %5.2f | %4.0f\n", shape.nodes,
               shape.per_node, levels == 2 ? "two" : "one", 1e-6 * net.among, 1e-6 * net.within, 1e6 * net.latency,
               1e3 * t.compute, 1e3 * t.exchange, 1e3 * measured, 1e3 * t.step, measured / t.step,
               100 * (1 - (measured - t.compute) / t.exchange));
    }
    engine_end();
}

// By the model only: the share of one rank's rate that each rank reaches on 1, 2, 4 ... 64 nodes, in per cent
static void table(Work work, int per_node, Net net, int argc, char** argv) {
    Config c;
    Error err;
    if (!config_parse(&c, NULL, argc, argv, &err)) { say_and_leave(err.text); }
    Model m = make_model(&c);
    for (int nodes = 1; nodes <= 64; nodes *= 2) {
        Shape shape = {nodes, per_node, 2, c.grad_accum_steps};
        StepTime t = step_model(&m.table, &m.owners.buckets, shape, work, net);
        printf(" %5.1f", 100 * t.compute / t.step);
    }
    printf("\n");
}

// ---------------------------------------------------------------------------------------------------------------------

int main(int argc, char** argv) {
    bool runs = argc > 6 && strcmp(argv[1], "run") == 0, tells = argc > 8 && strcmp(argv[1], "table") == 0;
    if (!runs && !tells) { fail(EXIT_USAGE, "simulate run|table: dev/scaling/simulate.c says how"); }
    double number[7] = {0};
    int numbers = runs ? 4 : 7, flags = runs ? 6 : 8;
    for (int i = 0; i < numbers; i++) { number[i] = atof(argv[2 + i]); }
    Work work = {1e-3 * number[0], 1e-3 * number[1], 1e-3 * number[2]};
    if (runs) { // the first word of argv + flags is ignored
        run(work, (int)number[3], strcmp(argv[6], "one") == 0 ? 1 : 2, argc - flags, argv + flags);
    } else {
        Net net = {1e9 * number[4], 1e9 * number[5], 1e-6 * number[6]};
        table(work, (int)number[3], net, argc - flags, argv + flags);
    }
    return 0;
}
