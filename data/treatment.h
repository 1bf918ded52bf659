// What is done with every image, according to the options.
#pragma once
#include "convert_options.h"
#include "prepare_image.h"

#ifdef HAVE_JPEG
enum { READS_JPEG = 1 };
#else
enum { READS_JPEG = 0 };
#endif

// Sets what the plan's index says about it.
static inline bool treatment_of(Treatment* t, Plan* p, const char* command, const ConvertOptions* o, Error* err) {
    if (!READS_JPEG) {
        return set_error(err, "%s reads JPEGs, and this program was built without: install libjpeg-dev (libjpeg-turbo) "
                         "and build again", command);
    }
    *t = (Treatment){o->side, o->side ? o->quality : 0, o->webdataset, o->strict, o->workers};
    p->side = t->side;
    p->quality = t->quality;
    if (t->side) { jpeg_encoder_text(p->encoder, sizeof p->encoder, jpeg_options(t->quality)); }
    return true;
}
