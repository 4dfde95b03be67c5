/* SPDX-License-Identifier: Apache-2.0 */
/* What dns.c writes as text: names of a message (RFC 1035) and addresses (RFC 5952), each different text once. */
#ifndef AYAFLOW_DNS_TEXT_H
#define AYAFLOW_DNS_TEXT_H

#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

enum { HEADER_BYTES = 12, WIRE_NAME = 254, TEXT_NAME = 4 * WIRE_NAME, MOST_JUMPS = 16 };

struct message {
    const u8 *octets;
    u32 bytes;
};

static u32 be16(const u8 *octets)
{
    return (u32)octets[0] << 8 | octets[1];
}

static u32 be32(const u8 *octets)
{
    return be16(octets) << 16 | be16(octets + 2);
}

/* A label's octets in lower case to `out`; what is not printable as \DDD. Returns how many it wrote. */
static u32 label_text(const u8 *octets, u32 bytes, u8 *out)
{
    u32 used = 0;

    for (u32 at = 0; at < bytes; at++) {
        u8 octet = octets[at];
        if (octet == '.' || octet == '\\') {
            out[used++] = '\\';
            out[used++] = octet;
        } else if (octet > ' ' && octet < 0x7f) {
            out[used++] = octet >= 'A' && octet <= 'Z' ? octet + 32 : octet;
        } else {
            out[used++] = '\\';
            out[used++] = '0' + octet / 100;
            out[used++] = '0' + octet / 10 % 10;
            out[used++] = '0' + octet % 10;
        }
    }
    return used;
}

/* The name at `at`: returns the offset behind it; 0 when the copy ends in it, -1 when it cannot be. With `out`, its text
 * of at most TEXT_NAME octets and their number. */
static i64 read_name(const struct message *message, u32 at, u8 *out, u32 *length)
{
    u32 behind = 0, wire = 0, jumps = 0, used = 0, lowest = at;

    for (;;) {
        if (at >= message->bytes)
            return 0;
        u32 size = message->octets[at];
        if (!size)
            break;
        if (size >= 0xc0) {
            if (at + 2 > message->bytes)
                return 0;
            if (!behind)
                behind = at + 2;
            u32 target = be16(message->octets + at) & 0x3fff;
            if (!out) /* whoever skips a name does not need what it points at */
                return target < lowest && target >= HEADER_BYTES ? (i64)behind : -1;
            if (target >= lowest || target < HEADER_BYTES || ++jumps > MOST_JUMPS)
                return -1;
            at = lowest = target;
            continue;
        }
        if (size > 63 || wire + size + 1 > WIRE_NAME)
            return -1;
        if (at + 1 + size > message->bytes)
            return 0;
        if (out) {
            if (wire)
                out[used++] = '.';
            used += label_text(message->octets + at + 1, size, out + used);
        }
        wire += size + 1;
        at += size + 1;
    }
    if (out && !wire)
        out[used++] = '.'; /* the root */
    if (length)
        *length = used;
    return behind ? behind : at + 1;
}

static u32 decimal(u32 number, u8 *out)
{
    u32 used = 0;

    if (number >= 100)
        out[used++] = '0' + number / 100;
    if (number >= 10)
        out[used++] = '0' + number / 10 % 10;
    out[used++] = '0' + number % 10;
    return used;
}

static u32 ipv4_text(const u8 *address, u8 *out)
{
    u32 used = 0;

    for (int i = 0; i < 4; i++) {
        if (i)
            out[used++] = '.';
        used += decimal(address[i], out + used);
    }
    return used;
}

static const u8 MAPPED[12] = {[10] = 0xff, [11] = 0xff};

/* As RFC 5952 says; at most 45 octets. */
static u32 ipv6_text(const u8 *address, u8 *out)
{
    u32 used = 0, from = 8, zeros = 1; /* the longest run of more than one zero, the first of equals */

    for (u32 i = 0; i < 8; i++) {
        u32 run = 0;
        while (i + run < 8 && !be16(address + 2 * (i + run)))
            run++;
        if (run > zeros) {
            from = i;
            zeros = run;
        }
        i += run;
    }
    if (!memcmp(address, MAPPED, sizeof(MAPPED))) {
        memcpy(out, "::ffff:", 7);
        return 7 + ipv4_text(address + 12, out + 7);
    }
    for (u32 i = 0; i < 8; i++) {
        if (i == from) {
            out[used++] = ':';
            if (i + zeros == 8)
                out[used++] = ':';
            i += zeros - 1;
            continue;
        }
        if (i)
            out[used++] = ':';
        u32 group = be16(address + 2 * i);
        for (int shift = 12; shift >= 0; shift -= 4)
            if (group >> shift || !shift)
                out[used++] = "0123456789abcdef"[group >> shift & 15];
    }
    return used;
}

struct texts { /* each different text once */
    u8 *octets;
    i64 *end; /* of each */
    u64 *hash;
    u32 *table; /* number + 1 by hash; zeroed */
    u64 mask, seed;
    i64 room, count, most;
};

/* The number of a text of `bytes` that was written behind all that are there. */
static i32 interned(struct texts *texts, u32 bytes)
{
    i64 begin = texts->count ? texts->end[texts->count - 1] : 0;
    const u8 *text = texts->octets + begin;
    u64 hash = texts->seed ^ bytes;

    for (u32 at = 0; at < bytes; at += 8) {
        u64 word = 0;
        memcpy(&word, text + at, bytes - at < 8 ? bytes - at : 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
        hash ^= hash >> 32;
    }
    for (u64 place = hash & texts->mask;; place = (place + 1) & texts->mask) {
        u32 number = texts->table[place];
        if (!number) {
            texts->end[texts->count] = begin + bytes;
            texts->hash[texts->count] = hash;
            texts->table[place] = ++texts->count;
            return texts->count - 1;
        }
        if (texts->hash[number - 1] == hash) {
            i64 from = number > 1 ? texts->end[number - 2] : 0;
            if (texts->end[number - 1] - from == bytes && !memcmp(texts->octets + from, text, bytes))
                return number - 1;
        }
    }
}

static u8 *text_place(struct texts *texts)
{
    return texts->octets + (texts->count ? texts->end[texts->count - 1] : 0);
}

#endif
