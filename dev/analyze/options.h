// The options of ./analyze. Which analysis takes which is in the table of dev/analyze/analyze.c.
#pragma once
#include "../../runtime/options.h"

typedef struct {
    char output[OPTION_TEXT_SIZE], data[OPTION_TEXT_SIZE], checkpoint[OPTION_TEXT_SIZE], checkpoints[OPTION_TEXT_SIZE];
    char blocks[OPTION_TEXT_SIZE], heads[OPTION_TEXT_SIZE];
    char files[OPTION_TEXT_SIZE], box[OPTION_TEXT_SIZE], mask[OPTION_TEXT_SIZE];
    double mass;
    int maps, grid, directions, products, seed;
    int images, batch_size, every, threads, help;
} AnalyzeOptions;

#define ANALYZE_TEXT(field, name, initial, help) \
    {OPTION_TEXT, name, offsetof(AnalyzeOptions, field), initial, 0, 0, NULL, RESUME_FREE, help},
#define ANALYZE_INT(field, name, initial, min, max, help) \
    {OPTION_INT, name, offsetof(AnalyzeOptions, field), initial, min, max, NULL, RESUME_FREE, help},
#define ANALYZE_SWITCH(field, name, help) \
    {OPTION_SWITCH, name, offsetof(AnalyzeOptions, field), "off", 0, 0, NULL, RESUME_FREE, help},
#define ANALYZE_REAL(field, name, initial, min, max, help) \
    {OPTION_REAL, name, offsetof(AnalyzeOptions, field), initial, min, max, NULL, RESUME_FREE, help},
#define ANALYZE_CHOICE(field, name, initial, choices, help) \
    {OPTION_CHOICE, name, offsetof(AnalyzeOptions, field), initial, 0, 0, choices, RESUME_FREE, help},

#define DIRECTIONS(X) X(DIRECTIONS_COMPONENTS, "components") X(DIRECTIONS_RANDOM, "random") X(DIRECTIONS_BOTH, "both")
enum { DIRECTIONS(CHOICE_CONSTANT) };
#define MAPS(X) X(MAPS_IMAGE, "image") X(MAPS_MEAN, "mean")
enum { MAPS(CHOICE_CONSTANT) };

static const Option analyze_options[] = {
    ANALYZE_TEXT(output, "output", "", "folder of what is written; default: analysis/ in the first run")
    ANALYZE_TEXT(checkpoint, "checkpoint", "best", "best, last, last.ema, epoch-N, start (before training), or a file")
    ANALYZE_TEXT(checkpoints, "checkpoints", "", "several, with commas, or all; default: start, one halfway, the end")
    ANALYZE_TEXT(blocks, "blocks", "", "numbers from 0, with commas; or all, or last")
    ANALYZE_TEXT(heads, "heads", "", "numbers from 0, with commas; or all")
    ANALYZE_TEXT(data, "data", "", "where the run's data set lies now")
    ANALYZE_INT(images, "images", "0", 0, 100000000,
                "so many of those that the run was evaluated on; 0: as the analysis says")
    ANALYZE_TEXT(files, "files", "", "image files, JPEG or PNG, with commas, in the place of test images")
    ANALYZE_TEXT(box, "box", "", "region of the image: top,left,height,width in pixels as the model sees it")
    ANALYZE_TEXT(mask, "mask", "", "region: where this image file, of the images' size, is bright")
    ANALYZE_REAL(mass, "mass", "0", 0, 100, "per cent of the attention that masks hold; 0: no masks")
    ANALYZE_CHOICE(maps, "maps", "image", CHOICES(MAPS), "what is imposed: each image's own map, or the mean of all")
    ANALYZE_INT(grid, "grid", "25", 3, 1001, "points a side of a plane")
    ANALYZE_CHOICE(directions, "directions", "both", CHOICES(DIRECTIONS), "of planes: components (principal), random")
    ANALYZE_INT(products, "products", "50", 0, 100000, "for the Hessian's largest eigenvalue, at most; 0: none")
    ANALYZE_INT(seed, "seed", "1", 0, 2147483647, "of random directions")
    ANALYZE_INT(batch_size, "batch-size", "0", 0, 65536, "images at a time; 0: as the run, at most 128")
    ANALYZE_INT(every, "every", "10", 0, 86400, "seconds between looks at the run; 0: look once")
    ANALYZE_INT(threads, "threads", "0", 0, 4096, "0: all cores; no number depends on it")
    ANALYZE_SWITCH(help, "help", "print this; after an analysis, what belongs to it")
};
enum { ANALYZE_OPTIONS = sizeof analyze_options / sizeof analyze_options[0] };

// Numbers from 0 below `limit`, in the order in which "0,2,5", "all" or "last" names them; what: "block"
static inline bool number_list(const char* text, int limit, const char* what, int* numbers, int* count, Error* err) {
    *count = 0;
    if (strcmp(text, "last") == 0) { numbers[(*count)++] = limit - 1; }
    for (int i = 0; i < limit && strcmp(text, "all") == 0; i++) { numbers[(*count)++] = i; }
    for (const char* at = *count ? "" : text; *at;) {
        char* end;
        long number = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || number < 0 || number >= limit || *count == limit) {
            return set_error(err, "--%ss %s: give numbers from 0 to %d, with commas, or all", what, text, limit - 1);
        }
        numbers[(*count)++] = (int)number;
        at = *end ? end + 1 : end;
    }
    return *count || set_error(err, "--%ss names no %s: give numbers from 0 to %d, with commas, or all", what, what,
                               limit - 1);
}
