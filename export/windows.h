// Windows of a grid of tokens (kernels/windows.h) as ONNX operations: into windows and back, and the logits of
// attention, in windows or over all tokens.
#pragma once
#include "../kernels/window_bias.h"
#include "layers.h"

static bool export_in_windows(const Export* e) { return e->d.windows.grid > 0; }

// x[(i + by) mod grid] along an axis of `grid`
static Value export_rolled(Graph* g, Value x, int axis, int by, int grid) {
    Value parts[] = {export_slice(g, x, axis, by, grid), export_slice(g, x, axis, 0, by)};
    return by ? export_concat(g, 2, parts, axis) : x;
}

// x (B,T,width) in the order of the grid, to (B,windows,N,width)
static Value export_to_windows(Export* e, Value x, int width) {
    Graph* g = &e->graph;
    Windows w = e->d.windows;
    int across = w.grid / w.size;
    x = export_reshape(g, x, INTEGERS(g, 0, w.grid, w.grid, width));
    x = export_rolled(g, export_rolled(g, x, 1, w.shift, w.grid), 2, w.shift, w.grid);
    x = export_reshape(g, x, INTEGERS(g, 0, across, w.size, across, w.size, width));
    x = export_transpose(g, x, 6, (int64_t[]){0, 1, 3, 2, 4, 5});
    return export_reshape(g, x, INTEGERS(g, 0, across * across, w.size * w.size, width));
}

// The inverse
static Value export_from_windows(Export* e, Value x, int width) {
    Graph* g = &e->graph;
    Windows w = e->d.windows;
    int across = w.grid / w.size, back = w.shift ? w.grid - w.shift : 0;
    x = export_reshape(g, x, INTEGERS(g, 0, across, across, w.size, w.size, width));
    x = export_transpose(g, x, 6, (int64_t[]){0, 1, 3, 2, 4, 5});
    x = export_reshape(g, x, INTEGERS(g, 0, w.grid, w.grid, width));
    x = export_rolled(g, export_rolled(g, x, 1, back, w.grid), 2, back, w.grid);
    return export_reshape(g, x, INTEGERS(g, 0, w.grid * w.grid, width));
}

// The relative position bias (H,N,N) of the heads from `first` on, looked up in the block's table (offsets, heads)
static Value export_window_bias(Export* e, int first, int H) {
    Windows w = e->d.windows;
    int N = window_tokens(w);
    char layer[NAME_SIZE], name[GRAPH_NAME];
    float* data;
    snprintf(name, sizeof name, "%s.relative_position_bias.%d", export_name(e, "blocks.%d.attn", layer), first);
    Value bias = graph_new_tensor(&e->graph, name, 3, (int64_t[]){H, N, N}, &data);
    w.shift = 0; // the mask is separate
    if (data) { window_bias_forward(data, export_params(e).window_table + first, w, 0, false, e->d.H, H, N, N); }
    return bias;
}

// For each window and two places in it, `same` if they are in the same region, else `other`: (windows,1,N,N)
static Value export_window_pairs(Export* e, const char* what, float same, float other) {
    Windows w = e->d.windows;
    int N = window_tokens(w), windows = windows_of_image(w);
    char name[GRAPH_NAME];
    float* data;
    snprintf(name, sizeof name, "windows.%d.%d.%s", w.grid, w.size, what);
    Value pairs = graph_new_tensor(&e->graph, name, 4, (int64_t[]){windows, 1, N, N}, &data);
    for (int n = 0; data && n < windows; n++) {
        int kind = window_kind(w, n);
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) {
                *data++ = window_region(w, kind, i) == window_region(w, kind, j) ? same : other;
            }
        }
    }
    return pairs;
}

// Q K^T of queries (B,H,NQ,D), scaled, and keys (B,H,D,N), heads from `first` on; in windows with their bias, and with
// a mask between regions unless that is 0
static Value export_logits(Export* e, Value q, Value k, int first, int H, float mask) {
    Graph* g = &e->graph;
    Value logits = export_product(g, q, k);
    if (!export_in_windows(e)) { return logits; }
    logits = export_add(g, logits, export_window_bias(e, first, H));
    if (!e->d.windows.shift || mask == 0) { return logits; }
    char what[32];
    snprintf(what, sizeof what, "mask.%.9g", mask);
    return export_add(g, logits, export_window_pairs(e, what, 0, mask));
}

// 1 for each place of a window that is in region r, else 0: (windows,1,N,1)
static Value export_window_region(Export* e, int r) {
    Windows w = e->d.windows;
    int N = window_tokens(w), windows = windows_of_image(w);
    char name[GRAPH_NAME];
    float* data;
    snprintf(name, sizeof name, "windows.%d.%d.region.%d", w.grid, w.size, r);
    Value places = graph_new_tensor(&e->graph, name, 4, (int64_t[]){windows, 1, N, 1}, &data);
    for (int n = 0; data && n < windows; n++) {
        for (int i = 0; i < N; i++) { *data++ = window_region(w, window_kind(w, n), i) == r; }
    }
    return places;
}
