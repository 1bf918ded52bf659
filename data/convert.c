// Makes data sets for the trainer from the files in which they are published: one command for each kind of source, each
// in a file of its own (convert_*.h).
//
//   ./convert_data cifar10 INPUT_DIR OUTPUT_DIR [--any-hash]          ./convert_data --help tells all
//
// cc -O2 data/convert.c -o convert_data -lm builds it without libraries; what a command can do with each library is in
// its file, and it reports what it cannot do without one.
#include "../runtime/output.h"
#include "convert_flowers102.h"
#include "convert_folder.h"
#include "convert_imagenet.h"
#include "convert_index.h"
#include "convert_official.h"
#include "convert_stl10.h"
#include "convert_svhn.h"
#include "convert_tiny_imagenet.h"

// run is given the name, and the words after it up to a NULL.
typedef struct {
    const char* names;   // "mnist|fashion-mnist"
    const char* words;   // that follow it: "INPUT_DIR OUTPUT_DIR"; those in [brackets] are optional
    const char* options; // the convert_options that it takes: "any-hash|side"
    bool (*run)(const char* name, const char* const* words, const ConvertOptions* options, Error* err);
    const char* help;    // what it reads; lines are indented by 6
} Command;

static const Command commands[] = {
    {"fashion-mnist|mnist", "INPUT_DIR OUTPUT_DIR", "any-hash", convert_official,
     "      train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte,\n"
     "      as they are or packed with gzip\n"},
    {"cifar10", "INPUT_DIR OUTPUT_DIR", "any-hash", convert_official,
     "      data_batch_1.bin to data_batch_5.bin, test_batch.bin (\"binary version\"), packed or not\n"},
    {"cifar100", "INPUT_DIR OUTPUT_DIR", "any-hash", convert_official,
     "      train.bin, test.bin (\"binary version\"; fine labels), packed or not\n"},
    {"imagenet", "INPUT_DIR OUTPUT_DIR", "side|quality|webdataset|strict|workers|any-hash", convert_imagenet,
     "      ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, which are not\n"
     "      unpacked; or folders train and val, or Kaggle's. Makes shards, as folder does\n"},
    {"folder", "INPUT_DIR OUTPUT_DIR", "side|quality|split|webdataset|strict|workers", convert_folder,
     "      train/CLASS/*.jpg and val/CLASS/*.jpg (or validation, valid, test), or CLASS/*.jpg with --split; JPEG and\n"
     "      PNG, in folders within a class as well. Makes shards, for --data OUTPUT_DIR; the same command goes on\n"
     "      where it was stopped\n"},
    {"svhn", "INPUT_DIR OUTPUT_DIR", "any-hash|extra", convert_svhn,
     "      train_32x32.mat, test_32x32.mat, extra_32x32.mat where it is wanted (format 2, cropped digits)\n"},
    {"stl10", "INPUT_DIR OUTPUT_DIR", "any-hash", convert_stl10,
     "      stl10_binary.tar.gz, or what it unpacks to\n"},
    {"flowers102", "INPUT_DIR OUTPUT_DIR", "any-hash|train-with-valid|side|quality|webdataset|strict|workers",
     convert_flowers102,
     "      102flowers.tgz, or the folder jpg that it unpacks to, imagelabels.mat and setid.mat. Makes shards\n"},
    {"tiny-imagenet", "INPUT_DIR OUTPUT_DIR", "any-hash", convert_tiny_imagenet,
     "      tiny-imagenet-200.zip, or what it unpacks to\n"},
    {"index", "FOLDER", "strict|workers", convert_index,
     "      tars whose names say train or val: shards that this program made, webdataset's (.jpg with .cls), or ones\n"
     "      in which each class is a folder. Makes train.index and val.index beside them, for --data FOLDER\n"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

// ---- what the user is told ----

static void print_command(FILE* out, const char* before, const Command* c) {
    fprintf(out, "%s%s %s\n%s", before, c->names, c->words, c->help);
    bool first = true;
    for (int i = 0; i < CONVERT_OPTIONS; i++) {
        const Option* o = &convert_options[i];
        if (position_in(c->options, option_name(o)) < 0) { continue; }
        bool alone = o->type == OPTION_SWITCH;
        fprintf(out, "%s--%s%s%s", first ? "      takes " : ", ", option_name(o), alone ? "" : " ",
                alone ? "" : option_value_name(o));
        first = false;
    }
    if (!first) { fputc('\n', out); }
}

// Of one command, or of all
static void print_usage(FILE* out, const Command* command) {
    if (command) {
        print_command(out, "usage: ./convert_data ", command);
        return;
    }
    fprintf(out, "usage: ./convert_data COMMAND WORDS... [options]\n\n"
                 "Makes data sets for ./train_kat from the files in which they are published: "
                 "OUTPUT_DIR/NAME.train.kds\nand NAME.test.kds, for --data OUTPUT_DIR/NAME; or shards, for --data "
                 "OUTPUT_DIR. The commands, and what\n"
                 "INPUT_DIR holds:\n");
    for (int i = 0; i < COMMANDS; i++) { print_command(out, "  ", &commands[i]); }
    fprintf(out, "\nOptions, each with its default:\n");
    options_help(out, convert_options, CONVERT_OPTIONS);
}

// With what belongs to the command, or the names of all
__attribute__((noreturn))
static void fail_usage(const Command* command, const char* reason) {
    char* text = NULL;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    if (out && command) { print_usage(out, command); }
    for (int i = 0; i < COMMANDS && out && !command; i++) {
        fprintf(out, "%s%s", i ? "|" : "The commands are ", commands[i].names);
    }
    if (out) {
        fprintf(out, "%s", command ? "" : "; ./convert_data --help tells all");
        fclose(out);
    }
    fail(EXIT_USAGE, "%s\n\n%s", reason, text ? text : "");
}

// ---- the command line ----

typedef struct {
    char** words; // (count) the command, what follows it, NULL
    int count;
    ConvertOptions options;
    bool given[CONVERT_OPTIONS];
} CommandLine;

static const Command* find_command(const char* name) {
    for (int i = 0; i < COMMANDS && name; i++) {
        if (position_in(commands[i].names, name) >= 0) { return &commands[i]; }
    }
    return NULL;
}

static int count_words(const char* words, bool optional) {
    int count = 0;
    for (const char* w = words; *w; w += strspn(w, " ")) {
        count += optional || *w != '[';
        w += strcspn(w, " ");
    }
    return count;
}

// Whether these words and options are the command's
static bool check_command_line(const Command* c, const CommandLine* line, Error* err) {
    if (!line->count) { return set_error(err, "expected a command: what is to be converted"); }
    if (!c) { return set_error(err, "unknown command %s", line->words[0]); }
    if (line->count - 1 < count_words(c->words, false)) {
        return set_error(err, "expected after %s: %s", line->words[0], c->words);
    }
    if (line->count - 1 > count_words(c->words, true)) {
        return set_error(err, "one argument too many: %s", line->words[line->count - 1]);
    }
    for (int i = 0; i < CONVERT_OPTIONS; i++) {
        const char* name = option_name(&convert_options[i]);
        if (line->given[i] && position_in(c->options, name) < 0) {
            return set_error(err, "--%s is no option of %s", name, line->words[0]);
        }
    }
    return true;
}

int main(int argc, char** argv) {
    output_guard();
    CommandLine line = {.words = argv};
    Error err;
    bool read = options_and_words(&line.options, convert_options, CONVERT_OPTIONS, argc, argv, &line.count, line.given,
                                  &err);
    const Command* command = find_command(line.words[0]);
    if (!read) { fail_usage(command, err.text); }
    if (line.options.help) {
        print_usage(stdout, command);
        return 0;
    }
    if (!check_command_line(command, &line, &err)) { fail_usage(command, err.text); }
    if (!command->run(line.words[0], (const char* const*)line.words + 1, &line.options, &err)) {
        if (!preparation_stopped) { fail(EXIT_RUN_TIME, "%s", err.text); }
        printf("%s\n", err.text);
        return EXIT_STOPPED;
    }
    return 0;
}
