// One image file, through data/decode.h: whole, and a box that the bytes choose. If both can be read, the box is a part
// of the whole; a file that can be read whole can be read in part too.
#pragma once
#include "fuzz.h"
#include "../../data/decode.h"

enum { FUZZ_IMAGE_PIXELS = 1 << 18 }; // larger images take long and show nothing else

static inline Crop fuzz_box(const uint8_t* bytes, size_t size, ImageInfo info) {
    int part[4]; // 0..255, from the last bytes
    for (size_t i = 0; i < 4; i++) { part[i] = bytes[size - 1 - i]; }
    int height = 1 + (info.height - 1) * part[0] / 255, width = 1 + (info.width - 1) * part[1] / 255;
    return (Crop){(info.height - height) * part[2] / 255, (info.width - width) * part[3] / 255, height, width};
}

static inline void fuzz_compare(const uint8_t* part, Crop box, const uint8_t* whole, ImageInfo info) {
    for (int r = 0; r < 3 * box.height; r++) {
        int c = r / box.height, y = r % box.height;
        const uint8_t* want = whole + ((size_t)c * info.height + box.top + y) * info.width + box.left;
        FUZZ_CHECK(memcmp(part + (size_t)r * box.width, want, (size_t)box.width) == 0, "a box is a part of the image");
    }
}

static inline void fuzz_image(const uint8_t* bytes, size_t size) {
    ImageInfo info;
    Error err = {""}, err_of_box = {""};
    if (!image_info(&info, bytes, size, &err)) {
        FUZZ_CHECK(*err.text, "refused without a sentence");
        return;
    }
    int64_t pixels = (int64_t)info.height * info.width;
    FUZZ_CHECK(info.height >= 1 && info.width >= 1 && pixels <= MAX_IMAGE_PIXELS, "the size is sane");
    if (pixels > FUZZ_IMAGE_PIXELS) { return; }
    size_t count = (size_t)3 * info.height * info.width;
    uint8_t *whole = malloc(count), *part = malloc(count);
    Decoder* d = decoder_create();
    Crop box = fuzz_box(bytes, size, info);
    bool ok = decode_box(d, bytes, size, whole_image(info), whole, &err);
    bool box_ok = decode_box(d, bytes, size, box, part, &err_of_box);
    FUZZ_CHECK(ok || *err.text, "refused without a sentence");
    FUZZ_CHECK(box_ok || *err_of_box.text, "refused without a sentence");
    FUZZ_CHECK(box_ok || !ok, err_of_box.text);
    if (ok && box_ok) { fuzz_compare(part, box, whole, info); }
    decoder_free(d);
    free(whole);
    free(part);
}
