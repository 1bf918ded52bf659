// crc32 as zlib, gzip and PNG have it, with zlib or without.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
static inline uint32_t crc32_of(const void* bytes, size_t count) {
    return (uint32_t)crc32_z(0, (const Bytef*)bytes, count);
}
#else
static inline uint32_t crc32_of(const void* bytes, size_t count) {
    static const uint32_t half_bytes[16] = { // of the polynomial 0xEDB88320
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < count; i++) {
        crc ^= ((const uint8_t*)bytes)[i];
        crc = crc >> 4 ^ half_bytes[crc & 15];
        crc = crc >> 4 ^ half_bytes[crc & 15];
    }
    return ~crc;
}
#endif
