// 32-bit checksums: crc32 as in zlib, gzip and PNG, with zlib or without, and crc32c as in TensorBoard's event files.
#pragma once
#include <stddef.h>
#include <stdint.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

// By a reflected polynomial's table of half bytes
static inline uint32_t crc_by_half_bytes(const uint32_t half_bytes[16], const void* bytes, size_t count) {
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < count; i++) {
        crc ^= ((const uint8_t*)bytes)[i];
        crc = crc >> 4 ^ half_bytes[crc & 15];
        crc = crc >> 4 ^ half_bytes[crc & 15];
    }
    return ~crc;
}

static inline uint32_t crc32_of(const void* bytes, size_t count) {
#ifdef HAVE_ZLIB
    return (uint32_t)crc32_z(0, (const Bytef*)bytes, count);
#else
    static const uint32_t half_bytes[16] = { // of 0xEDB88320
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    return crc_by_half_bytes(half_bytes, bytes, count);
#endif
}

static inline uint32_t crc32c_of(const void* bytes, size_t count) {
    static const uint32_t half_bytes[16] = { // of 0x82F63B78
        0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
        0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
    };
    return crc_by_half_bytes(half_bytes, bytes, count);
}
