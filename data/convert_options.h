// The options of ./convert_data. Which command takes which is in data/convert.c's table of commands.
#pragma once
#include "../runtime/options.h"

typedef struct {
    int any_hash, extra, train_with_valid, help;
    int side, quality, webdataset, strict, workers; // of what makes shards
    double split;
} ConvertOptions;

static const Option convert_options[] = {
    {OPTION_SWITCH, "any-hash", offsetof(ConvertOptions, any_hash), "off", 0, 0, NULL, RESUME_FREE,
     "also accept files whose MD5 is not the official one; of svhn, stl10, flowers102, tiny-imagenet also other sizes; "
     "of imagenet also labels that look wrong"},
    {OPTION_SWITCH, "extra", offsetof(ConvertOptions, extra), "off", 0, 0, NULL, RESUME_FREE,
     "SVHN: train on extra_32x32.mat as well; the set is called svhn-extra"},
    {OPTION_SWITCH, "train-with-valid", offsetof(ConvertOptions, train_with_valid), "off", 0, 0, NULL, RESUME_FREE,
     "Flowers-102: train on valid's images as well; the set is called flowers102-trainval"},
    {OPTION_INT, "side", offsetof(ConvertOptions, side), "0", 0, 16384, NULL, RESUME_FREE,
     "shards: larger images are brought to this shorter side, by Pillow's bicubic; 0: all stay as they are"},
    {OPTION_INT, "quality", offsetof(ConvertOptions, quality), "90", 1, 100, NULL, RESUME_FREE,
     "shards: of the JPEGs that --side writes, 4:2:0"},
    {OPTION_REAL, "split", offsetof(ConvertOptions, split), "0", 0, 1, NULL, RESUME_FREE,
     "folder: this part of each class is for validation, where no folder of its own is"},
    {OPTION_SWITCH, "webdataset", offsetof(ConvertOptions, webdataset), "off", 0, 0, NULL, RESUME_FREE,
     "shards: labels beside the images and _info.json, for webdataset, timm and DALI"},
    {OPTION_SWITCH, "strict", offsetof(ConvertOptions, strict), "off", 0, 0, NULL, RESUME_FREE,
     "shards: an image that cannot be read is an error, instead of skipped and listed"},
    {OPTION_INT, "workers", offsetof(ConvertOptions, workers), "0", 0, 1024, NULL, RESUME_FREE,
     "shards: threads; 0: as many as there are cores"},
    {OPTION_SWITCH, "help|h", offsetof(ConvertOptions, help), "off", 0, 0, NULL, RESUME_FREE,
     "print this; after a command, what belongs to it"},
};
enum { CONVERT_OPTIONS = sizeof convert_options / sizeof convert_options[0] };
