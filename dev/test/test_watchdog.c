// runtime/watchdog.h: when a rank that waits has waited for too long, which of them says it first, and what.
#include "../../runtime/watchdog.h"
#include "test.h"

enum { SIZE = 4 };

// Rank `rank` of four, on two nodes, that are in touch and at a step; the first is done before step 2.
static void be(int rank, int timeout, int64_t step) {
    static char node[SIZE][NODE_NAME] = {"node1", "node1", "node2", "node2"};
    static int on_their_way[SIZE][2];
    memset(on_their_way, 0, sizeof on_their_way);
    ranks = (Ranks){.rank = rank, .size = SIZE, .node_of = node};
    watchdog = (Watchdog){.lock = PTHREAD_MUTEX_INITIALIZER, .timeout = timeout, .number = -1, .on_their_way = on_their_way};
    stop_requested = 0;
    for (int64_t at = 1; at <= step; at++) { watchdog_at(at); }
}

// Seconds of looks until one is due, as this rank sees them; 1000: none is
static double seconds_until_due(void) {
    for (int looks = 1; looks < 1000 * LOOKS_A_SECOND; looks++) {
        if (watchdog_look()) { return (double)looks / LOOKS_A_SECOND; }
    }
    return 1000;
}

static bool comes_in(double seconds) {
    double due = seconds_until_due();
    bool right = due >= seconds && due < seconds + 0.5;
    if (!right) { printf("due after %g s, not after %g\n", due, seconds); }
    return right;
}

static void look_for(double seconds) {
    for (int looks = 0; looks < seconds * LOOKS_A_SECOND; looks++) { watchdog_look(); }
}

static void test_timeout(void) {
    be(0, 20, 2);
    CHECK(seconds_until_due() == 1000, "a rank that works is never due");
    wait_for(3, false);
    CHECK(seconds_until_due() == 1000, "nor is one whose message is on its way while it works");
    wait_begin();
    CHECK(comes_in(20), "a rank that waits");
    be(0, 20, 1);
    wait_begin();
    CHECK(comes_in(40), "at the first step it waits for twice as long");
    be(0, 20, 2);
    wait_for(2, false), wait_for(3, false), wait_begin();
    look_for(15);
    wait_got(2, false);
    CHECK(comes_in(20), "what comes begins the time anew");
    be(0, 20, 2);
    wait_begin();
    look_for(15);
    wait_end(), wait_begin();
    CHECK(comes_in(20), "so does a wait that ends");
}

static void test_who_is_first(void) {
    be(1, 20, 2);
    wait_for(3, false), wait_begin();
    CHECK(comes_in(25), "rank 1 gives rank 0 time to say it");
    be(1, 20, 2);
    wait_for(0, false), wait_begin();
    CHECK(comes_in(20), "but not where that is who it waits for");
    be(2, 20, 2);
    wait_for(0, false), wait_begin();
    CHECK(comes_in(25), "rank 2 then leaves it to rank 1");
    be(2, 20, 2);
    wait_for(0, false), wait_for(1, false), wait_begin();
    CHECK(comes_in(23), "who misses two leaves it to who misses one of them");
}

// Messages beside other work: none is heard of while others are waited for
static void test_beside(void) {
    be(0, 20, 2);
    wait_for(1, true), wait_for(2, true), wait_for(3, false), wait_begin();
    CHECK(!is_missed(1) && !is_missed(2) && is_missed(3), "of an exchange those alone are missed who are in it");
    wait_got(3, false);
    CHECK(is_missed(1) && is_missed(2) && !is_missed(3), "then those whose messages are still on their way");
}

static void test_signal(void) {
    be(0, 300, 2);
    wait_for(3, false), wait_begin();
    look_for(50);
    stop_requested = SIGTERM;
    CHECK(comes_in(10), "after a signal 10 s are enough, however long it had waited");
    be(0, 300, 2);
    wait_begin();
    look_for(30);
    wait_end();
    watchdog_look();
    stop_requested = SIGINT;
    wait_begin();
    CHECK(comes_in(40), "10 s more than it ever took");
    be(0, 300, 1);
    wait_begin();
    look_for(30);
    wait_end();
    watchdog_look();
    watchdog_at(2);
    stop_requested = SIGTERM;
    wait_begin();
    CHECK(comes_in(10), "in a step: what it took at the start does not count");
    be(0, 300, 2);
    stop_requested = SIGTERM;
    watchdog_writes(true);
    wait_begin();
    CHECK(comes_in(300), "rank 0's files are waited for");
    be(0, 300, 2);
    watchdog_writes(true);
    watchdog_writes(false);
    stop_requested = SIGTERM;
    wait_begin();
    CHECK(comes_in(10), "until the next step is done");
    be(0, 300, 2);
    stop_requested = SIGUSR1;
    wait_begin();
    CHECK(comes_in(300), "a signal in good time does not hurry");
}

static void test_sentences(void) {
    Error text;
#define SAYS(...) \
    watchdog_sentence(&text); \
    CHECK(strcmp(text.text, __VA_ARGS__) == 0, "%s", text.text)
    be(0, 20, 812);
    wait_on("gradients of bucket", 4);
    wait_for(3, false), wait_for(3, false), wait_for(2, false), wait_begin();
    seconds_until_due();
    SAYS("rank 0 has waited 23 s for ranks 2, 3 on node2 at step 812 (gradients of bucket 4): they are dead, stuck or "
         "wait for one that is, or --rank-timeout is too short");
    wait_got(3, false), wait_got(2, false);
    seconds_until_due();
    SAYS("rank 0 has waited 20 s for rank 3 on node2 at step 812 (gradients of bucket 4): it is dead, stuck or waits "
         "for one that is, or --rank-timeout is too short");
    wait_for(1, false);
    wait_on("an evaluation", -1);
    seconds_until_due();
    SAYS("rank 0 has waited 23 s for ranks 1 on node1, 3 on node2 at step 812 (an evaluation): they are dead, stuck or "
         "wait for one that is, or --rank-timeout is too short");
    be(3, 20, 0);
    wait_for(0, false), wait_for(1, false), wait_for(2, false), wait_begin();
    seconds_until_due();
    SAYS("rank 3 has waited 46 s for ranks 0, 1 on node1, 2 on node2 at the start: they are dead, stuck or wait for one "
         "that is, or --rank-timeout is too short");
    be(0, 300, 7);
    stop_requested = SIGTERM;
    wait_for(3, false), wait_begin();
    seconds_until_due();
    SAYS("rank 0 has waited 10 s for rank 3 on node2 at step 7 after a signal to end");
    be(0, 300, 0);
    watchdog.on_their_way = NULL;
    wait_begin();
    seconds_until_due();
    SAYS("not all of 4 ranks have come within 600 s: see what the others say, or give more --rank-timeout");
}

static void test_many(void) {
    enum { MANY = 64 };
    int on_their_way[MANY][2] = {{0}};
    Error text;
    be(0, 20, 3);
    ranks.size = MANY;
    ranks.node_of = NULL;
    watchdog.on_their_way = on_their_way;
    for (int r = 40; r < MANY; r++) { wait_for(r, false); }
    wait_begin();
    seconds_until_due();
    SAYS("rank 0 has waited 32 s for ranks 40, 41, 42, 43, 44, 45, 46, 47 and 16 more at step 3: they are dead, stuck or "
         "wait for one that is, or --rank-timeout is too short");
}

int main(void) {
    test_timeout();
    test_who_is_first();
    test_beside();
    test_signal();
    test_sentences();
    test_many();
    return tests_finish();
}
