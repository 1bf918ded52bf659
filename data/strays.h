// What a folder holds in which data/convert.c does not find the official files: other versions of a data set, archives,
// other formats.
#pragma once
#include "../runtime/files.h"

typedef struct { const char *pattern, *what; } Stray;

// In the order in which they are looked for
static const Stray strays[] = {
    {"cifar-10-batches-py", "the Python version of CIFAR-10"},
    {"cifar-10-python.tar*", "the Python version of CIFAR-10"},
    {"data_batch_1", "the Python version of CIFAR-10"},
    {"cifar-100-python*", "the Python version of CIFAR-100"},
    {"meta", "the Python version of CIFAR-100"},
    {"cifar-10-batches-mat", "the MATLAB version of CIFAR-10"},
    {"cifar-*-matlab*", "the MATLAB version of a CIFAR set"},
    {"*.mat", "a MATLAB version"},
    {"*.tar", "an archive"}, {"*.tar.*", "an archive"}, {"*.tgz", "an archive"}, {"*.zip", "an archive"},
    {"*[.]idx?-ubyte*", "an idx file under another name than the official one"},
    {"*.npz", "a NumPy version"}, {"*.npy", "a NumPy version"}, {"*.pkl*", "a Python version"},
    {"*.csv", "a table"}, {"*.parquet", "a table"}, {"*.png", "a single image"}, {"*.jpg", "a single image"},
};

// Says what is in the folder, and what is needed instead; false: nothing known
static inline bool explain_stray(const char* folder, const char* wanted, Error* err) {
    char name[256];
    for (size_t i = 0; i < sizeof strays / sizeof strays[0]; i++) {
        if (!find_entry(folder, strays[i].pattern, name)) { continue; }
        if (strcmp(strays[i].what, "an archive") == 0) {
            set_error(err, "%s/%s is an archive: unpack it there. Wanted is %s", folder, name, wanted);
        } else {
            set_error(err, "%s/%s is %s, which this program does not read: fetch %s", folder, name, strays[i].what,
                      wanted);
        }
        return true;
    }
    return false;
}
