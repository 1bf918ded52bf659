// An index of shards (data/shards.h), with shards of the sizes that it states if these are small, from opening it to
// the bytes of all its images.
#include "fuzz.h"
#include "../../data/shards.h"

enum { FUZZ_SHARDS = 4, FUZZ_SHARD_BYTES = 1 << 16 };

static void fuzz_make_shards(uint8_t* index) {
    const ShardIndexHeader* h = (const ShardIndexHeader*)index;
    for (uint32_t k = 0; k < h->shards && k < FUZZ_SHARDS; k++) {
        const ShardFile* file = &shard_index_files(index)[k];
        if (file->bytes > FUZZ_SHARD_BYTES || path_exists(in_folder(file->name))) { continue; }
        uint8_t* bytes = calloc(1, file->bytes + 1);
        write_file(in_folder(file->name), bytes, file->bytes);
        free(bytes);
    }
}

static void fuzz_records(const Dataset* d) {
    for (int i = 0; i < d->count; i++) {
        char name[192];
        Error err = {""};
        uint8_t* bytes = malloc(d->shards->records[i].bytes);
        shard_record_name(name, d, i);
        shard_record_hint(d, i);
        FUZZ_CHECK(shard_record_read(d, i, bytes, &err) || *err.text, "refused without a sentence");
        free(bytes);
    }
}

static void fuzz_index(const uint8_t* bytes, size_t size) {
    Error err = {""};
    Dataset d;
    open_test_folder();
    write_file(in_folder("train.index"), bytes, size);
    uint8_t* index = shard_index_load(in_folder("train.index"), &err);
    FUZZ_CHECK(index || *err.text, "refused without a sentence");
    if (index) { fuzz_make_shards(index); }
    free(index);
    if (shards_load(&d, in_folder("train.index"), &err)) {
        fuzz_records(&d);
        dataset_free(&d);
    }
    FUZZ_CHECK(*err.text || index, "refused without a sentence");
    remove_test_folder();
}
FUZZ_TARGET(fuzz_index)

#ifdef FUZZING
// The checksum is mostly corrected; otherwise the file would be refused at once.
size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t room, unsigned seed) {
    size = LLVMFuzzerMutate(bytes, size, room);
    if (seed % 16 == 0 || size < sizeof(ShardIndexHeader)) { return size; }
    uint64_t checksum = dataset_checksum(bytes + 16, size - 16);
    memcpy(bytes + 8, &checksum, sizeof checksum);
    return size;
}
#endif
