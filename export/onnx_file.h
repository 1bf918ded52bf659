// A graph as an ONNX file, with text under keys for what else an application needs to know. Weights are within the file
// or, if they would make it larger than a protobuf message can be, in FILE.data beside it.
#pragma once
#include "../runtime/files.h"
#include "../runtime/metadata.h"
#include "graph.h"

enum {
    ONNX_IR_VERSION = 8, ONNX_OPERATORS = 17, // of ONNX 1.12, 2022: LayerNormalization exists from 17 on
    ONNX_SMALL_TENSOR = 1024,                 // bytes that always stay in the file
    ONNX_DATA_ALIGN = 4096,                   // of tensors beside it, for readers that map them
};
#define ONNX_MOST_INSIDE ((size_t)2000 * 1000 * 1000) // a message is less than 2^31 bytes

// ---- Key and value

static inline Onnx__StringStringEntryProto** onnx_entries(Graph* g, char* (*pairs)[2], int count) {
    Onnx__StringStringEntryProto** entries = graph_keep(g, alloc_array(void*, count, "an ONNX file"));
    for (int i = 0; i < count; i++) {
        entries[i] = graph_message(g, &onnx__string_string_entry_proto__descriptor);
        entries[i]->key = graph_text(g, pairs[i][0]);
        entries[i]->value = graph_text(g, pairs[i][1]);
    }
    return entries;
}

// ---- Weights beside the file

static inline void onnx_refer(Graph* g, Onnx__TensorProto* t, const char* location, size_t offset) {
    char at[32], length[32];
    snprintf(at, sizeof at, "%zu", offset);
    snprintf(length, sizeof length, "%zu", t->raw_data.len);
    char* pairs[][2] = {{(char*)"location", (char*)location}, {(char*)"offset", at}, {(char*)"length", length}};
    t->external_data = onnx_entries(g, pairs, 3);
    t->n_external_data = 3;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    t->raw_data = (ProtobufCBinaryData){0, NULL};
}

// Writes the larger tensors to PATH.data, and replaces them by references to it.
static inline bool onnx_put_beside(Graph* g, const char* path, Error* err) {
    char data_path[PATH_MAX];
    WholeFile out;
    size_t at = 0;
    snprintf(data_path, sizeof data_path, "%s.data", path);
    const char* slash = strrchr(data_path, '/');
    if (!whole_file_begin(&out, data_path, err)) { return false; }
    for (size_t i = 0; i < g->proto.n_initializer; i++) {
        Onnx__TensorProto* t = g->proto.initializer[i];
        size_t bytes = t->raw_data.len;
        if (bytes < ONNX_SMALL_TENSOR) { continue; }
        for (; at % ONNX_DATA_ALIGN; at++) { fputc(0, out.file); }
        fwrite(t->raw_data.data, 1, bytes, out.file);
        onnx_refer(g, t, slash ? slash + 1 : data_path, at);
        at += bytes;
    }
    return whole_file_end(&out, err);
}

// ---- The file

typedef struct { ProtobufCBuffer base; FILE* file; } OnnxFile;

static inline void onnx_append(ProtobufCBuffer* buffer, size_t count, const uint8_t* bytes) { // the stream keeps errors
    fwrite(bytes, 1, count, ((OnnxFile*)buffer)->file);
}

static inline bool onnx_write(const char* path, const Onnx__ModelProto* model, Error* err) {
    WholeFile out;
    if (!whole_file_begin(&out, path, err)) { return false; }
    OnnxFile buffer = {{onnx_append}, out.file};
    onnx__model_proto__pack_to_buffer(model, &buffer.base);
    return whole_file_end(&out, err);
}

static inline size_t onnx_weight_bytes(const Graph* g) {
    size_t bytes = 0;
    for (size_t i = 0; i < g->proto.n_initializer; i++) { bytes += g->proto.initializer[i]->raw_data.len; }
    return bytes;
}

// most_inside: the most bytes of weights in the file itself, ONNX_MOST_INSIDE except in tests
static inline bool onnx_save(Graph* g, const char* name, const Metadata* metadata, const char* path, size_t most_inside,
                             Error* err) {
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto set, *sets[] = {&set};
    onnx__model_proto__init(&model);
    onnx__operator_set_id_proto__init(&set);
    set.version = ONNX_OPERATORS;
    g->proto.name = graph_text(g, name);
    model.ir_version = ONNX_IR_VERSION;
    model.producer_name = (char*)"kat.c";
    model.graph = &g->proto;
    model.n_opset_import = 1;
    model.opset_import = sets;
    model.n_metadata_props = (size_t)metadata->count;
    model.metadata_props = onnx_entries(g, metadata->pairs, metadata->count);
    if (onnx_weight_bytes(g) > most_inside && !onnx_put_beside(g, path, err)) { return false; }
    return onnx_write(path, &model, err);
}
