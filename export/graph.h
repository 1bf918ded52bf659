// A graph of ONNX operations that grows node by node, as messages of onnx.proto. A value is the name of a tensor in it.
// A node, and so its value, is named after the part of the model it belongs to and its operation,
// "blocks.0.attn/MatMul"; the next of the same kind there is "blocks.0.attn/MatMul_1". Initialisers, which are learned
// tensors and constants, occur once under each name.
//
//   Graph g;
//   graph_begin(&g);
//   graph_part(&g, "head");
//   Value y = graph_binary(&g, "Add", x, graph_tensor(&g, "head.bias", 1, (int64_t[]){K}, bias));
//   graph_free(&g);
#pragma once
#include "../runtime/memory.h"
#include "../runtime/texts.h"
#include "onnx.pb-c.h"

typedef const char* Value;

enum { GRAPH_NAME = 192 };

typedef struct {
    Onnx__GraphProto proto;
    char part[GRAPH_NAME];                // of the model, which new nodes belong to
    size_t node_room, initializer_room;
    TextTable kinds, tensors;             // "part/operation"; names of initialisers, in their order
    size_t* kind_count;                   // nodes of each kind
    size_t kind_room;
    void** memory;                        // all that the messages hold, except the weights
    size_t memory_count, memory_room;
} Graph;

// ---- Memory owned by the graph

static inline void* graph_grow(void* array, size_t count, size_t* room, size_t element) {
    Error err;
    void* grown = array_grow(array, count, room, element, &err);
    if (!grown) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return grown;
}

static inline void* graph_keep(Graph* g, void* bytes) {
    g->memory = graph_grow(g->memory, g->memory_count, &g->memory_room, sizeof *g->memory);
    return g->memory[g->memory_count++] = bytes;
}

static inline void* graph_copy(Graph* g, const void* from, size_t bytes) {
    void* to = graph_keep(g, alloc_bytes(bytes, "an ONNX graph"));
    return bytes ? memcpy(to, from, bytes) : to;
}

static inline char* graph_text(Graph* g, const char* text) { return graph_copy(g, text, strlen(text) + 1); }

// An empty message
static inline void* graph_message(Graph* g, const ProtobufCMessageDescriptor* type) {
    void* message = graph_keep(g, alloc_bytes(type->sizeof_message, "an ONNX graph"));
    protobuf_c_message_init(type, message);
    return message;
}

static inline void graph_begin(Graph* g) {
    *g = (Graph){0};
    onnx__graph_proto__init(&g->proto);
}

static inline void graph_free(Graph* g) {
    for (size_t i = 0; i < g->memory_count; i++) { free(g->memory[i]); }
    free(g->memory);
    free(g->proto.node);
    free(g->proto.initializer);
    free(g->kind_count);
    table_free(&g->kinds);
    table_free(&g->tensors);
    *g = (Graph){0};
}

// The number of a text in a table; *added: it is new
static inline size_t graph_number(TextTable* table, const char* text, bool* added) {
    Error err;
    int64_t found = table_find(table, text);
    *added = found < 0;
    if (*added && !table_add(table, text, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return *added ? table->count - 1 : (size_t)found;
}

// ---- Nodes

__attribute__((format(printf, 2, 3)))
static inline void graph_part(Graph* g, const char* format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(g->part, sizeof g->part, format, args);
    va_end(args);
}

static inline char* graph_node_name(Graph* g, const char* operation) {
    char name[2 * GRAPH_NAME];
    bool added;
    snprintf(name, sizeof name, "%s/%s", g->part, operation);
    size_t kind = graph_number(&g->kinds, name, &added);
    if (added) {
        g->kind_count = graph_grow(g->kind_count, kind, &g->kind_room, sizeof *g->kind_count);
        g->kind_count[kind] = 0;
    }
    size_t before = g->kind_count[kind]++;
    if (before) { snprintf(name + strlen(name), 24, "_%zu", before); }
    return graph_text(g, name);
}

// Names a node's outputs after it, several with .0, .1 and so on.
static inline char** graph_outputs(Graph* g, const char* name, int count) {
    char** outputs = graph_keep(g, alloc_array(char*, count, "an ONNX graph"));
    for (int i = 0; i < count; i++) {
        char output[2 * GRAPH_NAME + 32];
        snprintf(output, sizeof output, count == 1 ? "%s" : "%s.%d", name, i);
        outputs[i] = graph_text(g, output);
    }
    return outputs;
}

static inline Onnx__NodeProto* graph_node(Graph* g, const char* operation, int inputs, const Value* input, int outputs) {
    Onnx__NodeProto* node = graph_message(g, &onnx__node_proto__descriptor);
    node->name = graph_node_name(g, operation);
    node->op_type = graph_text(g, operation);
    node->n_input = (size_t)inputs;
    node->input = graph_copy(g, input, (size_t)inputs * sizeof *input);
    node->n_output = (size_t)outputs;
    node->output = graph_outputs(g, node->name, outputs);
    Onnx__GraphProto* p = &g->proto;
    p->node = graph_grow(p->node, p->n_node, &g->node_room, sizeof *p->node);
    return p->node[p->n_node++] = node;
}

static inline Onnx__AttributeProto* graph_attribute(Graph* g, Onnx__NodeProto* node, const char* name) {
    size_t n = node->n_attribute;
    Onnx__AttributeProto** all = graph_keep(g, alloc_array(void*, n + 1, "an ONNX graph"));
    if (n) { memcpy(all, node->attribute, n * sizeof *all); }
    all[n] = graph_message(g, &onnx__attribute_proto__descriptor);
    all[n]->name = graph_text(g, name);
    node->attribute = all;
    node->n_attribute = n + 1;
    return all[n];
}

static inline void graph_set_int(Graph* g, Onnx__NodeProto* node, const char* name, int64_t value) {
    Onnx__AttributeProto* a = graph_attribute(g, node, name);
    a->type = ONNX__ATTRIBUTE_PROTO__TYPE__INT;
    a->i = value;
}

static inline void graph_set_float(Graph* g, Onnx__NodeProto* node, const char* name, float value) {
    Onnx__AttributeProto* a = graph_attribute(g, node, name);
    a->type = ONNX__ATTRIBUTE_PROTO__TYPE__FLOAT;
    a->f = value;
}

static inline void graph_set_ints(Graph* g, Onnx__NodeProto* node, const char* name, int count, const int64_t* values) {
    Onnx__AttributeProto* a = graph_attribute(g, node, name);
    a->type = ONNX__ATTRIBUTE_PROTO__TYPE__INTS;
    a->n_ints = (size_t)count;
    a->ints = graph_copy(g, values, (size_t)count * sizeof *values);
}

static inline Value graph_unary(Graph* g, const char* operation, Value x) {
    return graph_node(g, operation, 1, &x, 1)->output[0];
}

static inline Value graph_binary(Graph* g, const char* operation, Value x, Value y) {
    return graph_node(g, operation, 2, (Value[]){x, y}, 1)->output[0];
}

static inline Value graph_choose(Graph* g, Value condition, Value x, Value y) {
    return graph_node(g, "Where", 3, (Value[]){condition, x, y}, 1)->output[0];
}

// ---- Initialisers

static inline size_t elements_of(int rank, const int64_t* shape) {
    size_t elements = 1;
    for (int k = 0; k < rank; k++) { elements *= (size_t)shape[k]; }
    return elements;
}

// *added: it was not there yet, and its data must still be set
static inline Onnx__TensorProto* graph_initializer(Graph* g, const char* name, int type, int rank, const int64_t* shape,
                                                   bool* added) {
    Onnx__GraphProto* p = &g->proto;
    size_t number = graph_number(&g->tensors, name, added);
    if (!*added) { return p->initializer[number]; }
    Onnx__TensorProto* t = graph_message(g, &onnx__tensor_proto__descriptor);
    t->name = graph_text(g, name);
    t->data_type = type;
    t->n_dims = (size_t)rank;
    t->dims = graph_copy(g, shape, (size_t)rank * sizeof *shape);
    size_t element = type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64 ? sizeof(int64_t) : sizeof(float);
    t->raw_data.len = elements_of(rank, shape) * element;
    p->initializer = graph_grow(p->initializer, number, &g->initializer_room, sizeof(void*));
    p->n_initializer = number + 1;
    return p->initializer[number] = t;
}

// The data must live as long as the graph.
static inline Value graph_tensor(Graph* g, const char* name, int rank, const int64_t* shape, const float* data) {
    bool added;
    Onnx__TensorProto* t = graph_initializer(g, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, rank, shape, &added);
    if (added) { t->raw_data.data = (uint8_t*)data; }
    return t->name;
}

// A tensor to be filled: *data, zeroed; NULL: it is there already
static inline Value graph_new_tensor(Graph* g, const char* name, int rank, const int64_t* shape, float** data) {
    bool added;
    Onnx__TensorProto* t = graph_initializer(g, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, rank, shape, &added);
    *data = NULL;
    if (added) {
        *data = graph_keep(g, alloc_bytes(t->raw_data.len, "an ONNX graph"));
        t->raw_data.data = (uint8_t*)*data;
    }
    return t->name;
}

static inline Value graph_number_of(Graph* g, double number) {
    char name[64];
    float* data;
    snprintf(name, sizeof name, "constant.%.9g", number);
    Value value = graph_new_tensor(g, name, 0, NULL, &data);
    if (data) { *data = (float)number; }
    return value;
}

// Whole numbers, such as shapes and axes; rank 0: a single one
static inline Value graph_whole_numbers(Graph* g, int rank, int count, const int64_t* numbers) {
    char name[GRAPH_NAME];
    bool added;
    snprintf(name, sizeof name, rank ? "integers" : "integer");
    for (int i = 0; i < count; i++) { snprintf(name + strlen(name), 24, "%c%lld", i ? ',' : '.', (long long)numbers[i]); }
    Onnx__TensorProto* t = graph_initializer(g, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, rank, (int64_t[]){count}, &added);
    if (added) { t->raw_data.data = (uint8_t*)graph_copy(g, numbers, (size_t)count * sizeof *numbers); }
    return t->name;
}

static inline Value graph_integers(Graph* g, int count, const int64_t* numbers) {
    return graph_whole_numbers(g, 1, count, numbers);
}
static inline Value graph_integer(Graph* g, int64_t number) { return graph_whole_numbers(g, 0, 1, &number); }

// ---- Inputs and outputs

enum { GRAPH_BATCH = 0 }; // a dimension of any size, called batch

static inline Onnx__TensorShapeProto__Dimension* graph_dimension(Graph* g, int64_t size) {
    Onnx__TensorShapeProto__Dimension* d = graph_message(g, &onnx__tensor_shape_proto__dimension__descriptor);
    if (size == GRAPH_BATCH) {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        d->dim_param = graph_text(g, "batch");
    } else {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = size;
    }
    return d;
}

// A list with this value only
static inline Onnx__ValueInfoProto** graph_value_info(Graph* g, const char* name, int rank, const int64_t* shape) {
    Onnx__TensorShapeProto* s = graph_message(g, &onnx__tensor_shape_proto__descriptor);
    Onnx__TypeProto__Tensor* tensor = graph_message(g, &onnx__type_proto__tensor__descriptor);
    Onnx__TypeProto* type = graph_message(g, &onnx__type_proto__descriptor);
    Onnx__ValueInfoProto* info = graph_message(g, &onnx__value_info_proto__descriptor);
    s->n_dim = (size_t)rank;
    s->dim = graph_keep(g, alloc_array(void*, rank, "an ONNX graph"));
    for (int k = 0; k < rank; k++) { s->dim[k] = graph_dimension(g, shape[k]); }
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = s;
    type->tensor_type = tensor;
    info->name = graph_text(g, name);
    info->type = type;
    return graph_copy(g, &info, sizeof info);
}

static inline void graph_input(Graph* g, const char* name, int rank, const int64_t* shape) {
    g->proto.n_input = 1;
    g->proto.input = graph_value_info(g, name, rank, shape);
}

static inline void graph_output(Graph* g, const char* name, int rank, const int64_t* shape) {
    g->proto.n_output = 1;
    g->proto.output = graph_value_info(g, name, rank, shape);
}
