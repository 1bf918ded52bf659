// model/buckets.h, model/owners.h: which granules are whose, on ranks and nodes of any number, and what is sent; from
// one place after the other, without a library that sends.
#pragma GCC diagnostic ignored "-Wunused-function"
#undef HAVE_MPI
#include "../../model/owners.h"
#include "../../model/settings.h"
#include "kernel_test.h"

static ParameterTable table_of(const char* model) {
    ParameterTable table;
    Config c;
    Error err;
    char* argv[] = {"test", "--model", (char*)model};
    CHECK(config_parse(&c, NULL, 3, argv, &err), "%s", err.text);
    CHECK(parameter_table(&table, &c, dims_of(&c, 1000), &err), "%s", err.text);
    return table;
}

static void stand_at(int size, int per_node, int place) {
    ranks.size = size, ranks.per_node = per_node, ranks.place = place;
}

// Whole segments, in order, of 2^18 floats and more but for the first: of these models a block, or the head
static void test_buckets(const char* model, int count) {
    ParameterTable table = table_of(model);
    Buckets buckets = buckets_of(&table);
    CHECK(buckets.count == count, "%s has %d buckets", model, buckets.count);
    CHECK(buckets.first[0] == 0 && buckets.first[count] == table.total, "%s: all is in a bucket", model);
    for (int b = 1; b < buckets.count; b++) {
        CHECK(buckets.first[b + 1] - buckets.first[b] >= BUCKET_FLOATS, "%s: bucket %d is small", model, b);
    }
    for (int i = 0; i < table.blocks + 2; i++) {
        int b = buckets.of_segment[i];
        CHECK(table.segment[i] >= buckets.first[b] && table.segment[i + 1] <= buckets.first[b + 1], "%s: segment %d",
              model, i);
    }
    buckets_free(&buckets);
    parameter_table_free(&table);
}

// Each float has one owner, whoever asks; the owned ones fill their buffers.
static void test_owners(int size, int per_node) {
    ParameterTable table = table_of("vit-tiny");
    uint8_t* owned = alloc_array(uint8_t, table.total, "test");
    size_t most = 0, least = table.total, wrong = 0, granules = 0;
    int buckets = 0;
    for (int p = 0; p < size; p++) {
        stand_at(size, per_node, p);
        Owners s = owners_plan(&table, 2 * size);
        size_t kept = 0;
        for (int b = 0; b < s.buckets.count; b++) {
            Slice own = s.bucket[b].own, among = own_floats(&s.buckets, b, STAGE_AMONG_NODES);
            wrong += s.bucket[b].kept_at != kept || own.first != among.first || own.end != among.end;
            kept += length_of(own);
            for (size_t i = own.first; i < own.end; i++) { owned[i]++; }
        }
        granules += count_granules_at(&s, p);
        wrong += kept != s.owned || count_granules(&s) * GRANULE_FLOATS < table.total;
        most = s.owned > most ? s.owned : most;
        least = s.owned < least ? s.owned : least;
        if (p == size - 1) { wrong += granules != count_granules(&s); }
        buckets = s.buckets.count;
        owners_free(&s);
    }
    for (size_t i = 0; i < table.total; i++) { wrong += owned[i] != 1; }
    CHECK(wrong == 0, "%d ranks, %d on a node: %zu floats or sizes are wrong", size, per_node, wrong);
    size_t uneven = 2 * (size_t)buckets * GRANULE_FLOATS; // a granule a bucket and level
    CHECK(most - least <= uneven, "%d ranks, %d on a node: from %zu to %zu floats", size, per_node, least, most);
    free(owned);
    parameter_table_free(&table);
}

// What one place sends another in a stage is what that awaits, and within a circle everybody brings all its leaves.
static void test_circles(int A, int size, int per_node) {
    int wrong = 0, leaves = 0;
    for (int p = 0; p < size; p++) {
        stand_at(size, per_node, p);
        for (int stage = STAGE_WITHIN_NODE; stage <= STAGE_AMONG_NODES; stage++) {
            Circle c = circle_of((Stage)stage);
            wrong += circle_place(c, c.own) != p;
            for (int k = 0; k < c.count; k++) {
                Pieces pieces = circle_pieces(c, A, k);
                for (int i = 0; i < pieces.count; i++) {
                    leaves += stage == STAGE_AMONG_NODES ? pieces.piece[i].count : 0;
                }
            }
        }
    }
    CHECK(wrong == 0 && leaves == A * size, "%d leaves on %d ranks, %d on a node: %d", A, size, per_node, leaves);
}

// What the ranks of a node make of their leaves, whoever of them merges, is what its members of the other circles
// bring.
static void test_node_pieces(int A, int size, int per_node) {
    int wrong = 0;
    for (int node = 0; node < size / per_node; node++) {
        Pieces merged = {0};
        stand_at(size, per_node, node * per_node);
        Circle within = circle_within_node(), among = circle_among_nodes();
        for (int k = 0; k < within.count; k++) {
            Pieces pieces = circle_pieces(within, A, k);
            for (int i = 0; i < pieces.count; i++) { pieces_push(&merged, pieces.piece[i]); }
        }
        Pieces brought = circle_pieces(among, A, node);
        wrong += among.own != node || merged.count != brought.count;
        for (int i = 0; i < merged.count && i < brought.count; i++) {
            wrong += merged.piece[i].first != brought.piece[i].first || merged.piece[i].count != brought.piece[i].count;
        }
    }
    CHECK(wrong == 0, "%d leaves on %d ranks, %d on a node: %d nodes or pieces are not as awaited", A, size, per_node,
          wrong);
}

// Bytes out of a rank and of a node, of a bucket's: (g-1)/g + (M-1)/(gM), and (M-1)/M
static void test_traffic(void) {
    ParameterTable table = table_of("vit-base");
    stand_at(8, 4, 5);
    Owners s = owners_plan(&table, 8);
    double within = (double)received_of(&s, 1, STAGE_WITHIN_NODE);
    double among = (double)received_of(&s, 1, STAGE_AMONG_NODES);
    double bucket = (double)(s.buckets.first[2] - s.buckets.first[1]);
    CHECK_NEAR(within / bucket, 0.75, 2e-3, "received within a node");
    CHECK_NEAR(among / bucket, 0.125, 2e-3, "received among nodes");
    owners_free(&s);
    parameter_table_free(&table);
}

int main(void) {
    test_buckets("vit-tiny", 13);
    test_buckets("vit-small", 14);
    test_buckets("vit-base", 14);
    for (int nodes = 1; nodes <= 4; nodes++) {
        for (int per_node = 1; per_node <= 5; per_node++) { test_owners(nodes * per_node, per_node); }
    }
    for (int size = 1; size <= 12; size++) {
        for (int per_node = 1; per_node <= size; per_node++) {
            for (int A = size; size % per_node == 0 && A <= 24; A++) {
                test_circles(A, size, per_node);
                test_node_pieces(A, size, per_node);
            }
        }
    }
    test_traffic();
    return tests_finish();
}
