// An arbitrary tar, of which ./convert_data index makes an index: from its name and labels over every member to the
// index, which is read again.
#include "fuzz.h"
#include "../../data/convert_index.h"

enum { FUZZ_TAR_IMAGES = 64, FUZZ_TAR_PIXELS = 1 << 18 }; // larger images take long and show nothing else

static bool fuzz_tar_large(const InputImage* image) {
    uint8_t* bytes = NULL;
    ImageInfo info;
    Error err;
    bool large = !image->refused && read_descriptor(image->descriptor, image->offset, image->bytes, &bytes, &err)
        && image_info(&info, bytes, image->bytes, &err) && (int64_t)info.height * info.width > FUZZ_TAR_PIXELS;
    free(bytes);
    return large;
}

// The images of a job, prepared one by one; false: the tar ends in an error
static bool fuzz_tar_images(const Plan* p, const Job* job, size_t size, Part* part, Error* err) {
    Cursor* c = calloc(1, sizeof *c);
    ImageWorker* w = calloc(1, sizeof *w);
    PreparedImage* image = calloc(1, sizeof *image);
    Treatment t = {0};
    int found = -1;
    w->decoder = decoder_create();
    *c = (Cursor){.job = job, .at = job->first};
    for (int i = 0; i < FUZZ_TAR_IMAGES; i++) {
        if ((i == 0 && !job->source->begin(c, err)) || (found = job->source->next(c, &w->image, err)) != 1) { break; }
        FUZZ_CHECK(w->image.offset <= size && w->image.bytes <= size - w->image.offset, "an image lies in the tar");
        bool labelled = w->image.label >= 0 && (!p->classes.count || w->image.label < p->classes.count);
        FUZZ_CHECK(w->image.refused || labelled, "an image has a class");
        if (fuzz_tar_large(&w->image)) { continue; }
        prepare_image(w, &t, image);
        FUZZ_CHECK(part_add(part, image, image->place, err), err->text);
        free(image->bytes);
    }
    for (int i = 0; i < c->descriptor_count; i++) { close(c->descriptors[i]); }
    image_worker_free(w);
    free(w);
    free(c);
    free(image);
    return found >= 0;
}

// The result can be read.
static void fuzz_tar_index(Plan* p, Part* part, Error* err) {
    SetSummary s = {0};
    Dataset d;
    FUZZ_CHECK((!p->settle || p->settle(p, part, err)) && summarize(&s, p, part, err), err->text);
    if (part->header.records) {
        FUZZ_CHECK(save_index(&s, SPLIT_TRAIN, err), err->text);
        FUZZ_CHECK(shards_load(&d, in_folder("train.index"), err), err->text);
        FUZZ_CHECK(d.count == (int)part->header.records, "it has all images");
        dataset_free(&d);
    }
    summary_free(&s);
}

static void fuzz_tar(const uint8_t* bytes, size_t size) {
    Error err = {""};
    Part part = {0};
    open_test_folder();
    write_file(in_folder("train.tar"), bytes, size);
    TarSet set = {.folder = test_folder};
    Plan plan = {.output = test_folder};
    part.header.shard_bytes = size;
    if (plan_index(&plan, &set, &err) && fuzz_tar_images(&plan, &plan.jobs[0], size, &part, &err)) {
        fuzz_tar_index(&plan, &part, &err);
    } else {
        FUZZ_CHECK(*err.text, "refused without a sentence");
    }
    part_free(&part);
    plan_free(&plan);
    tar_set_free(&set);
    remove_test_folder();
}
FUZZ_TARGET(fuzz_tar)

#ifdef FUZZING
// The checksums of possible headers are mostly corrected; otherwise the file would be refused at once.
size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t room, unsigned seed) {
    size = LLVMFuzzerMutate(bytes, size, room);
    for (size_t at = 0; seed % 16 && at + TAR_BLOCK <= size; at += TAR_BLOCK) {
        unsigned sum = 8 * ' ';
        for (int i = 0; i < TAR_BLOCK; i++) { sum += i >= 148 && i < 156 ? 0 : bytes[at + i]; }
        if (memcmp(bytes + at + 257, "ustar", 5) == 0) { snprintf((char*)bytes + at + 148, 8, "%06o", sum); }
    }
    return size;
}
#endif
