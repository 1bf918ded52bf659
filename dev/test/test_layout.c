// model/parameters.h: where the tensors lie in a flat buffer, what they start with, and a table whose rows are not the
// same in every block.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../model/parameters.h"
#include "../../model/settings.h"
#include "kernel_test.h"

#define ROW_CONSTANT(field, ...) ROW_##field,
enum { PARAMETER_TABLE(ROW_CONSTANT) };

static const char* const models[][8] = {
    {"vit-mini"}, {"kat-mini-g3b", "--layer-scale", "0.1"}, {"kat-mini-g3u", "--karat-order", "phi-phi"},
    {"vit-mini", "--depth", "1", "--pool", "avg", "--mlp", "kan"}, {"vit-mini", "--attn", "softmax-rank", "--mlp", "prelu"},
    {"convit-mini-g3u"}, {"swin-mini-g3u"}};
enum { MODELS = sizeof models / sizeof models[0] };

static Config config_of(int model) {
    Config c;
    Error err;
    char* argv[10] = {"test", "--model"};
    int argc = 2;
    for (int i = 0; i < 8 && models[model][i]; i++) { argv[argc++] = (char*)models[model][i]; }
    CHECK(config_parse(&c, NULL, argc, argv, &err), "%s", err.text);
    return c;
}

static ParameterTable table_of(const Config* c) {
    ParameterTable table;
    Error err;
    CHECK(parameter_table(&table, c, dims_of(c, 10), &err), "%s", err.text);
    return table;
}

// Front, blocks and back follow one another, and a tensor lies in the one that it belongs to.
static void check_segments(const ParameterTable* table, const char* what) {
    const size_t* segment = table->segment;
    int L = table->blocks;
    CHECK(segment[0] == 0 && segment[L + 2] == table->total, "%s: from %zu to %zu", what, segment[0], segment[L + 2]);
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(table, i); l++) {
            const Parameter* p = &table->row[l][i];
            bool back = i >= ROW_norm_weight;
            int own = p->per_block ? l + 1 : back ? L + 1 : 0;
            bool inside = p->offset >= segment[own] && p->offset + p->size <= segment[own + 1];
            CHECK(!p->size || inside, "%s: %s of block %d is not in segment %d", what, p->name, l, own);
            CHECK(p->offset % GROUP_FLOATS == 0, "%s: %s of block %d begins at %zu", what, p->name, l, p->offset);
        }
    }
}

// Every float is of one tensor at most, and every float of a tensor of its group
static void check_places(const ParameterTable* table, const char* what) {
    NamedTensor* tensors = named_tensors(table);
    uint8_t *taken = alloc_array(uint8_t, table->total, "test"), *groups = update_groups(table);
    size_t count = 0, twice = 0, wrong = 0;
    for (int k = 0; k < tensor_count(table); k++) {
        for (size_t i = 0; i < tensors[k].size; i++) { twice += taken[tensors[k].offset + i]++ > 0; }
        count += tensors[k].size;
    }
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(table, i); l++) {
            const Parameter* p = &table->row[l][i];
            for (size_t k = 0; k < p->size; k++) { wrong += groups[(p->offset + k) / GROUP_FLOATS] != p->group; }
        }
    }
    CHECK(twice == 0 && count == table->count, "%s: %zu floats twice; %zu of %zu", what, twice, count, table->count);
    CHECK(wrong == 0, "%s: %zu floats in another group", what, wrong);
    free(tensors), free(taken), free(groups);
}

// The tensors of a row start as if they lay side by side, (L, ...), wherever they are.
static void test_draws(void) {
    Config c = config_of(1);
    Error err;
    ParameterTable table = table_of(&c);
    float* flat = alloc_floats(table.total, "test");
    CHECK(params_init(&table, &c, flat, &err), "%s", err.text);
    uint32_t name = name_hash("blocks.%d.attn.qkv.weight");
    size_t wrong = 0, gaps = 0, sum = 0;
    for (int l = 0; l < table.blocks; l++) {
        const Parameter* p = &table.row[l][ROW_qkv_weight];
        for (size_t k = 0; k < p->size; k++) {
            wrong += flat[p->offset + k] != trunc_normal((uint64_t)c.seed, name, (size_t)l * p->size + k, 0.02);
        }
    }
    CHECK(wrong == 0, "%zu weights start otherwise", wrong);
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(&table, i); l++) {
            const Parameter* p = &table.row[l][i];
            memset(flat + p->offset, 0, p->size * sizeof(float));
            sum += p->size;
        }
    }
    for (size_t i = 0; i < table.total; i++) { gaps += flat[i] != 0; }
    CHECK(gaps == 0 && sum == table.count, "%zu floats between the tensors are not zero", gaps);
    free(flat);
    parameter_table_free(&table);
}

// A row that some blocks lack, and one that is larger in each
static void test_uneven_blocks(void) {
    Config c = config_of(0);
    ParameterTable table = table_of(&c);
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < table.blocks; l++) { table.row[l][i].size = table.row[l][i].size > 0; }
    }
    for (int l = 0; l < table.blocks; l++) {
        table.row[l][ROW_qkv_bias].size = l == 1;
        table.row[l][ROW_fc1_bias].shape[0] = 100 * (l + 1);
    }
    table.count = (size_t)size_tensors(&table);
    place_tensors(&table);
    check_segments(&table, "uneven blocks");
    check_places(&table, "uneven blocks");
    NamedTensor* tensors = named_tensors(&table);
    int biases = 0;
    for (int k = 0; k < tensor_count(&table); k++) { biases += strstr(tensors[k].name, "qkv.bias") != NULL; }
    CHECK(biases == 1 && table.row[1][ROW_qkv_bias].draw == 0, "%d tensors of a row in one block", biases);
    CHECK(table.row[2][ROW_fc1_bias].draw == 300 && table.row[2][ROW_fc1_bias].size == 300, "draws follow the sizes");
    free(tensors);
    parameter_table_free(&table);
}

int main(void) {
    for (int i = 0; i < MODELS; i++) {
        Config c = config_of(i);
        ParameterTable table = table_of(&c);
        check_segments(&table, models[i][0]);
        check_places(&table, models[i][0]);
        parameter_table_free(&table);
    }
    test_draws();
    test_uneven_blocks();
    return tests_finish();
}
