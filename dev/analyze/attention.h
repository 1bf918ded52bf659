// ./analyze attention: what the class token attends to, its row of the logits A and of the weights sigma (without class
// token, the mean of all rows), for each head of a block, over test images or image files: maps of the first ones on a
// contact sheet, and numbers (map_numbers.h) of all:
//     entropy     in nats, of the row's masses |w| / sum |w|
//     negative    share of the mass in negative entries
//     inside      share of the positive entries' sum, over patches, inside a box or mask of the image
//     position    share of the map's variation that is the same for all images: of the row, and of the matrix (N,N)
#pragma once
#include "analysis.h"
#include "attention_maps.h"
#include "map_sheet.h"
#include "../../data/photo.h"

enum { ATTENTION_IMAGES = 64, SHEET_ROWS = 8 };

typedef struct {
    MapVariance row, whole;
    Running entropy, negative, inside;
} HeadNumbers;

typedef struct {
    Run* run;
    const AnalyzeOptions* options;
    LoaderConfig evaluation;  // how images are prepared
    int block, head_count, *heads;
    int images, seen;         // test images; images done
    int N, H, side;
    float *maps[2], *row;     // A and sigma of a batch, (B,H,N,N); a row (N)
    float* inside;            // (side, side): the part of each patch that is in the region; NULL: no region
    HeadNumbers* numbers[2];  // (H)
    MapSheet sheet;
    Csv rows, positions;
} AttentionMaps;

// ---- The region

// box: top, left, height, width in pixels of the image as the model sees it
static bool region_of_box(float* inside, const char* text, int side, int S, Error* err) {
    double top, left, height, width, patch = (double)S / side;
    int used = 0;
    bool read = sscanf(text, "%lf,%lf,%lf,%lf%n", &top, &left, &height, &width, &used) == 4 && !text[used];
    if (!read || !(height > 0 && width > 0)) {
        return set_error(err, "--box %s: give top,left,height,width in pixels of the %d x %d image", text, S, S);
    }
    if (!(top >= 0 && left >= 0 && top + height <= S && left + width <= S)) {
        return set_error(err, "--box %s reaches beyond the image of %d x %d that the model sees", text, S, S);
    }
    for (int i = 0; i < side * side; i++) {
        double y = i / side * patch, x = i % side * patch;
        double down = fmin(y + patch, top + height) - fmax(y, top);
        double across = fmin(x + patch, left + width) - fmax(x, left);
        inside[i] = down > 0 && across > 0 ? (float)(down * across / (patch * patch)) : 0;
    }
    return true;
}

// The region where an image file, prepared like the model's images, is brighter than half
static bool region_of_file(float* inside, const char* path, const LoaderConfig* evaluation, int side, Error* err) {
    PhotoReader reader;
    LoaderConfig c = *evaluation;
    Error reason;
    int S = c.image_size, plane = S * S, patch = S / side;
    if (!photo_reader_open(&reader, &c, err)) { return false; }
    const Batch* batch = photo_read(&reader, path, &reason);
    for (int i = 0; batch && i < plane; i++) {
        double grey = 0;
        for (int k = 0; k < 3; k++) { grey += (batch->images[k * plane + i] * c.std[k] + c.mean[k]) / 3; }
        inside[i / S / patch * side + i % S / patch] += (grey > 0.5 ? 1.0f : 0) / (float)(patch * patch);
    }
    photo_reader_close(&reader);
    return batch || set_error(err, "--mask %s %s", path, reason.text);
}

// ---- One image

// The class token's row of a map (N,N), or the mean row
static void looking_row(float* row, const float* map, int N, bool token) {
    for (int n = 0; n < N; n++) {
        double sum = 0;
        for (int k = 0; k < N && !token; k++) { sum += map[(size_t)k * N + n]; }
        row[n] = token ? map[n] : (float)(sum / N);
    }
}

static void add_row(AttentionMaps* s, int matrix, int head, const float* map, const char* image) {
    bool token = s->run->t.model.config.pool == POOL_TOKEN;
    HeadNumbers* n = &s->numbers[matrix][head];
    looking_row(s->row, map, s->N, token);
    double entropy = map_entropy(s->row, s->N), negative = map_negative_share(s->row, s->N);
    double inside = s->inside ? map_inside_share(s->row + token, s->inside, s->side * s->side) : NAN;
    running_add(&n->entropy, entropy);
    running_add(&n->negative, negative);
    if (!isnan(inside)) { running_add(&n->inside, inside); }
    map_variance_add(&n->row, s->row);
    map_variance_add(&n->whole, map);
    csv_row(&s->rows, "%d,%d,%s,%s,%.9g,%.9g,%.9g", s->block, head, csv_text(image), matrix ? "sigma" : "A", entropy,
            negative, inside);
}

// Shows the maps of one head; A without its negative entries, as in the paper.
static void show_head(AttentionMaps* s, int head, const float* A, const float* sigma) {
    bool token = s->run->t.model.config.pool == POOL_TOKEN, *mask = alloc_array(bool, s->side * s->side, "a mask");
    char caption[MAP_CAPTION];
    int patches = s->side * s->side;
    looking_row(s->row, A, s->N, token);
    for (int n = 0; n < s->N; n++) { s->row[n] = fmaxf(s->row[n], 0); }
    snprintf(caption, sizeof caption, "A, head %d", head);
    sheet_map(&s->sheet, s->row + token, caption);
    looking_row(s->row, sigma, s->N, token);
    snprintf(caption, sizeof caption, "sigma, head %d", head);
    sheet_map(&s->sheet, s->row + token, caption);
    if (s->options->mass > 0) {
        map_mass_mask(mask, s->row + token, s->options->mass / 100, patches);
        snprintf(caption, sizeof caption, "%.4g %% of sigma", s->options->mass);
        sheet_mask(&s->sheet, mask, caption);
    }
    free(mask);
}

// Adds image (3,S,S) and its maps at index b of the batch.
static void add_image(AttentionMaps* s, const float* image, int b, const char* name, const char* caption) {
    size_t size = (size_t)s->N * s->N;
    bool shown = s->seen++ < s->sheet.rows;
    if (shown) { sheet_image(&s->sheet, image, s->evaluation.mean, s->evaluation.std, caption); }
    for (int k = 0; k < s->head_count; k++) {
        size_t at = ((size_t)b * s->H + s->heads[k]) * size;
        for (int matrix = 0; matrix < 2; matrix++) { add_row(s, matrix, s->heads[k], s->maps[matrix] + at, name); }
        if (shown) { show_head(s, s->heads[k], s->maps[0] + at, s->maps[1] + at); }
    }
}

// Computes maps of a batch of images, up to B.
static void make_maps(AttentionMaps* s, const float* images, int B) {
    Model* m = &s->run->t.model;
    model_forward(m, m->params, images, B, NULL);
    Acts a = acts_of_block(&m->acts_table, m->acts, s->block);
    attention_logits(s->maps[0], m, a, B);
    attention_weights(s->maps[1], m, params_of_block(&m->table, m->params, s->block), a, B);
}

// ---- Images: of the test split, or files

static void add_test_images(AttentionMaps* s) {
    Trainer* t = &s->run->t;
    Model* m = &t->model;
    size_t pixels = 3 * (size_t)m->dims.S * m->dims.S;
    WorkProgress progress = work_progress(s->images);
    loader_seek(&t->test_loader, 0);
    while (s->seen < s->images) {
        const Batch* batch = loader_next(&t->test_loader);
        int B = batch->count < s->images - s->seen ? batch->count : s->images - s->seen;
        make_maps(s, model_images(m, batch), B);
        for (int b = 0; b < B; b++) {
            char name[32];
            snprintf(name, sizeof name, "%d", batch->indices[b]);
            add_image(s, batch->images + (size_t)b * pixels, b, name, t->test.class_names[batch->labels[b]]);
        }
        progress.units += B;
        work_progress_say(&progress, "attention", "");
    }
}

static bool add_files(AttentionMaps* s, const char* paths, Error* err) {
    PhotoReader reader;
    Error reason;
    if (!photo_reader_open(&reader, &s->evaluation, err)) { return false; }
    bool ok = true;
    for (const char* at = paths; ok && *at; at += strspn(at, ",")) {
        char path[OPTION_TEXT_SIZE];
        int length = (int)strcspn(at, ",");
        snprintf(path, sizeof path, "%.*s", length, at);
        at += length;
        const Batch* batch = photo_read(&reader, path, &reason);
        ok = batch || set_error(err, "%s %s", path, reason.text);
        if (!ok) { break; }
        make_maps(s, model_images(&s->run->t.model, batch), 1);
        add_image(s, batch->images, 0, path, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    }
    photo_reader_close(&reader);
    return ok;
}

// ---- What is written

static void attention_table(const AttentionMaps* s, Results* out) {
    Table t;
    char title[160];
    snprintf(title, sizeof title, "Attention of block %d: means over %d images (entropy of equal weights: %.3f)",
             s->block, s->seen, log(s->N));
    table_begin(&t, title, "head\tmatrix\tentropy (nats)\tnegative (%)\tinside (%)\tposition, row (%)\t"
                           "position, matrix (%)");
    for (int k = 0; k < 2 * s->head_count; k++) {
        int head = s->heads[k / 2], matrix = k % 2;
        const HeadNumbers* n = &s->numbers[matrix][head];
        PositionContent row = position_content(&n->row), whole = position_content(&n->whole);
        char inside[32];
        snprintf(inside, sizeof inside, s->inside ? "%.1f" : "-", 100 * n->inside.mean);
        table_row(&t, "%d\t%s\t%.3f ± %.3f\t%.1f\t%s\t%.1f\t%.1f", head, matrix ? "σ" : "A", n->entropy.mean,
                  running_error(&n->entropy), 100 * n->negative.mean, inside, 100 * row.share, 100 * whole.share);
    }
    table_end(&t, out);
}

static void write_positions(AttentionMaps* s) {
    for (int k = 0; k < 2 * s->head_count; k++) {
        const HeadNumbers* n = &s->numbers[k % 2][s->heads[k / 2]];
        PositionContent row = position_content(&n->row), whole = position_content(&n->whole);
        csv_row(&s->positions, "%d,%d,%s,%d,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g", s->block, s->heads[k / 2],
                k % 2 ? "sigma" : "A", s->seen, row.position, row.content, row.share, whole.position, whole.content,
                whole.share);
    }
}

static bool page_sheet(FILE* page, const char* path, const char* title, const char* caption, Error* err) {
    Bytes png;
    Error reason;
    if (!read_image_file(path, &png.bytes, &png.count, &reason)) { return set_error(err, "%s %s", path, reason.text); }
    const uint8_t *w = png.bytes + 16, *h = w + 4; // PNG's width and height, four bytes each
    fputs("<figure>\n<h3>Attention maps</h3>\n<div class=\"table\">", page); // which scrolls like wide tables
    page_png(page, &png, w[2] << 8 | w[3], h[2] << 8 | h[3], title);
    fprintf(page, "</div>\n<figcaption>%s. ", title);
    html_text(page, caption);
    fputs("</figcaption>\n</figure>\n", page);
    free(png.bytes);
    return true;
}

// The sheet's file, and its part of a page. It goes with attention.csv: without that, it is not ours.
static bool write_sheet(const AttentionMaps* s, Results* out, const char* subject, Error* err) {
    char name[64], path[PATH_SIZE], csv[PATH_SIZE], title[256], caption[4096];
    bool token = s->run->t.model.config.pool == POOL_TOKEN;
    snprintf(name, sizeof name, "attention-block%d.png", s->block);
    results_path(out, name, path);
    results_path(out, "attention.csv", csv);
    if (!picture_is_ours(csv, path, err) || !map_sheet_write(&s->sheet, path, err)) { return false; }
    output_take_back();
    printf("wrote %s\n", path);
    if (!out->page) { return true; }
    snprintf(title, sizeof title, "What the %s of block %d looks at: vermilion positive, blue negative (not of A), the "
             "largest of a map opaque", token ? "class token" : "mean token", s->block);
    snprintf(caption, sizeof caption, "%s. By %s", subject, out->command);
    return page_sheet(out->page, path, title, caption, err);
}

// ---- A block

static void begin_block(AttentionMaps* s, int block) {
    const Model* m = &s->run->t.model;
    size_t map = (size_t)s->N * s->N;
    s->block = block;
    s->seen = 0;
    for (int k = 0; k < 2 * s->H; k++) {
        s->numbers[k % 2][k / 2] = (HeadNumbers){.row = map_variance_create(s->N), .whole = map_variance_create(map)};
    }
    s->sheet = map_sheet_create(SHEET_ROWS, 1 + s->head_count * (s->options->mass > 0 ? 3 : 2), m->dims.S, s->side);
}

static void end_block(AttentionMaps* s) {
    for (int k = 0; k < 2 * s->H; k++) {
        map_variance_free(&s->numbers[k % 2][k / 2].row);
        map_variance_free(&s->numbers[k % 2][k / 2].whole);
    }
    map_sheet_free(&s->sheet);
}

static bool attention_of_block(AttentionMaps* s, int block, Results* out, const char* subject, Error* err) {
    bool ok = true;
    begin_block(s, block);
    if (*s->options->files) { ok = add_files(s, s->options->files, err); } else { add_test_images(s); }
    if (ok) {
        attention_table(s, out);
        write_positions(s);
        ok = write_sheet(s, out, subject, err);
    }
    end_block(s);
    return ok;
}

// ---- The analysis

// How an evaluation prepares images: needs no data set if the checkpoint stores the normalisation.
static bool read_evaluation(AttentionMaps* s, Error* err) {
    Trainer* t = &s->run->t;
    Config* c = &t->model.config;
    if (!*s->options->files || !t->origin.normalizes) {
        if (!run_data(s->run, err)) { return false; }
        s->evaluation = t->test_loader.plan.config;
    } else {
        s->evaluation = (LoaderConfig){.image_size = c->image_size, .num_classes = t->model.dims.K,
                                       .output = LOAD_IMAGES, .augment = augment_none()};
        strcpy(c->eval, "checkpoint"); // normalised as the model was trained
        evaluate_as_configured(&s->evaluation, t);
        c->eval[0] = 0;
    }
    s->evaluation.batch_size = 1;
    return true;
}

static bool open_attention(AttentionMaps* s, Analysis* a, int64_t* step, Error* err) {
    AnalyzeOptions* o = &a->options;
    Run* r = &a->runs[0];
    *s = (AttentionMaps){.run = r, .options = o};
    if (!o->images) { o->images = ATTENTION_IMAGES; }
    if (!attends_to_all(a, r, err)) { return false; }
    if (r->config.reg_tokens) { return nothing_to_analyze(a, err, "%s has registers beside its patches", r->folder); }
    if (!run_model(r, err)) { return false; }
    if (!run_weights(r, o->checkpoint, r->t.model.params, step, err)) { return false; }
    Model* m = &r->t.model;
    s->N = m->dims.N;
    s->H = m->dims.H;
    s->side = m->dims.S / m->dims.P;
    if (!read_evaluation(s, err)) { return false; }
    s->images = r->t.test.count;
    for (int k = 0; k < 2; k++) {
        s->maps[k] = alloc_floats((size_t)m->B * s->H * s->N * s->N, "attention maps");
        s->numbers[k] = alloc_array(HeadNumbers, s->H, "numbers of attention");
    }
    s->row = alloc_floats(s->N, "attention maps");
    s->heads = alloc_array(int, s->H, "heads");
    if (!number_list(*o->heads ? o->heads : "all", s->H, "head", s->heads, &s->head_count, err)) { return false; }
    if (!*o->box && !*o->mask) { return true; }
    s->inside = alloc_floats((size_t)s->side * s->side, "a region");
    if (*o->box && *o->mask) { return set_error(err, "--box and --mask both say which region: leave out one"); }
    return *o->box ? region_of_box(s->inside, o->box, s->side, m->dims.S, err)
                   : region_of_file(s->inside, o->mask, &s->evaluation, s->side, err);
}

static void close_attention(AttentionMaps* s) {
    for (int k = 0; k < 2; k++) {
        free(s->maps[k]);
        free(s->numbers[k]);
    }
    free(s->row);
    free(s->heads);
    free(s->inside);
}

static bool attention_blocks(AttentionMaps* s, Results* out, const int* blocks, int count, const char* subject,
                             Error* err) {
    bool ok = csv_begin(&s->rows, out, "attention.csv", "block,head,image,matrix,entropy,negative,inside", err);
    if (!ok) { return false; }
    if (!csv_begin(&s->positions, out, "attention-position.csv", "block,head,matrix,images,row_position,row_content,"
                   "row_share,matrix_position,matrix_content,matrix_share", err)) {
        whole_file_drop(&s->rows.out);
        return false;
    }
    for (int i = 0; ok && i < count; i++) { ok = attention_of_block(s, blocks[i], out, subject, err); }
    if (ok) {
        ok = csv_end(&s->rows, err);
        return csv_end(&s->positions, err) && ok;
    }
    whole_file_drop(&s->rows.out);
    whole_file_drop(&s->positions.out);
    return false;
}

static bool attention(Analysis* a, Error* err) {
    AttentionMaps s;
    char subject[1024];
    int64_t step = 0;
    bool ok = open_attention(&s, a, &step, err);
    if (ok) {
        int L = s.run->t.model.dims.L, count, *blocks = alloc_array(int, L, "blocks");
        subject_of(s.run, a->options.checkpoint, step, subject, sizeof subject);
        ok = block_list(s.run, a->options.blocks, blocks, &count, err) &&
             attention_blocks(&s, &a->results, blocks, count, subject, err);
        free(blocks);
    }
    close_attention(&s);
    return ok;
}
