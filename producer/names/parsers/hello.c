/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS ClientHello (RFC 8446, 6066, 7301) to its name, ALPN and the parts of its JA4; producer/names/parsers/hello.py calls it by
 * ctypes. What is read here was sent by anybody: every read is checked against the end of what there is, and each list
 * against the end of the hello. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t i32;

enum { READ, SHORT, BROKEN }; /* whole; more octets are needed; cannot be a ClientHello */
enum { RECORD_HANDSHAKE = 22, CLIENT_HELLO = 1 };
enum { RECORD_BYTES = 5, MESSAGE_BYTES = 4, VERSION_AND_RANDOM = 34 };
enum { SERVER_NAME = 0, SIGNATURE_ALGORITHMS = 13, ALPN = 16, SUPPORTED_VERSIONS = 43 };
enum { ESNI = 0xffce, ECH_FIRST_DRAFT = 0xfe08, ECH = 0xfe0d };
enum { NO_ECH, OUTER_ECH, HAS_ESNI };
enum { MOST_HELLO = 16384, MOST_CIPHERS = 1024, MOST_EXTENSIONS = 512, MOST_SIGNATURES = 256, MOST_NAME = 255 };

struct hello {
    i32 ech_config; /* its number in the client's ECH extension; -1: none */
    u16 name_bytes, alpn_bytes, ciphers_bytes, extensions_bytes;
    u8 outcome, ech, has_name, ja4[9]; /* the characters of JA4 behind its first */
    u8 name[4 * MOST_NAME], alpn[4 * MOST_NAME];
    u8 ciphers[5 * MOST_CIPHERS], extensions[5 * (MOST_EXTENSIONS + MOST_SIGNATURES)]; /* what JA4's hashes are of */
};

struct cursor {
    const u8 *octets;
    u32 at, end;
};

static u32 be16(const u8 *octets)
{
    return (u32)octets[0] << 8 | octets[1];
}

static int is_grease(u32 value)
{
    return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff);
}

/* A vector behind its length of `width` octets; 0 when it is cut: then `out` has what is there of it. */
static int vector(struct cursor *from, u32 width, struct cursor *out)
{
    u32 size = 0;

    *out = (struct cursor){from->octets, from->end, from->end};
    if (from->end - from->at < width)
        return 0;
    for (u32 i = 0; i < width; i++)
        size = size << 8 | from->octets[from->at++];
    out->at = from->at;
    if (from->end - from->at < size)
        return 0;
    from->at += size;
    out->end = from->at;
    return 1;
}

/* What is not printable as \DDD; with `lower`, capitals as small letters. */
static u32 text(const u8 *octets, u32 bytes, u8 *out, int lower)
{
    u32 used = 0;

    for (u32 at = 0; at < bytes; at++) {
        u8 octet = octets[at];
        if (octet > ' ' && octet < 0x7f && octet != '\\') {
            out[used++] = lower && octet >= 'A' && octet <= 'Z' ? octet + 32 : octet;
        } else {
            out[used++] = '\\';
            if (octet == '\\') {
                out[used++] = octet;
                continue;
            }
            out[used++] = '0' + octet / 100;
            out[used++] = '0' + octet / 10 % 10;
            out[used++] = '0' + octet % 10;
        }
    }
    return used;
}

static void read_name(struct cursor body, struct hello *out)
{
    struct cursor list, name;

    out->has_name = 1;
    if (!vector(&body, 2, &list))
        return;
    while (list.at < list.end) {
        u8 type = list.octets[list.at++];
        if (!vector(&list, 2, &name))
            return;
        if (type)
            continue;
        u32 size = name.end - name.at;
        if (size && name.octets[name.end - 1] == '.')
            size--;
        if (size <= MOST_NAME)
            out->name_bytes = text(name.octets + name.at, size, out->name, 1);
        return;
    }
}

static int is_alphanumeric(u8 octet)
{
    return (octet >= '0' && octet <= '9') || (octet >= 'A' && octet <= 'Z') || (octet >= 'a' && octet <= 'z');
}

static void read_alpn(struct cursor body, struct hello *out)
{
    static const char hex[] = "0123456789abcdef";
    struct cursor list, first;

    if (!vector(&body, 2, &list) || !vector(&list, 1, &first) || first.at == first.end)
        return;
    u8 begin = first.octets[first.at], last = first.octets[first.end - 1];
    int plain = is_alphanumeric(begin) && is_alphanumeric(last);
    out->alpn_bytes = text(first.octets + first.at, first.end - first.at, out->alpn, 0);
    out->ja4[7] = plain ? begin : hex[begin >> 4];
    out->ja4[8] = plain ? last : hex[last & 15];
}

static u32 highest_version(struct cursor body, u32 otherwise)
{
    struct cursor list;
    u32 highest = 0;

    if (!vector(&body, 1, &list))
        return otherwise;
    for (; list.at + 2 <= list.end; list.at += 2) {
        u32 version = be16(list.octets + list.at);
        if (!is_grease(version) && version > highest)
            highest = version;
    }
    return highest ? highest : otherwise;
}

static int compare(const void *left, const void *right)
{
    return (int)*(const u16 *)left - (int)*(const u16 *)right;
}

/* Values as four hexadecimal digits each, with commas, behind `used` octets. */
static u32 listed(const u16 *values, u32 count, u8 *out, u32 used)
{
    for (u32 i = 0; i < count; i++) {
        if (i)
            out[used++] = ',';
        for (int shift = 12; shift >= 0; shift -= 4)
            out[used++] = "0123456789abcdef"[values[i] >> shift & 15];
    }
    return used;
}

static void two_digits(u32 number, u8 *out)
{
    number = number > 99 ? 99 : number;
    out[0] = '0' + number / 10;
    out[1] = '0' + number % 10;
}

static const char *version_text(u32 version)
{
    switch (version) {
    case 0x0304:
        return "13";
    case 0x0303:
        return "12";
    case 0x0302:
        return "11";
    case 0x0301:
        return "10";
    case 0x0300:
        return "s3";
    case 0x0002:
        return "s2";
    }
    return "00";
}

struct lists {
    u16 ciphers[MOST_CIPHERS], extensions[MOST_EXTENSIONS], signatures[MOST_SIGNATURES];
    u32 cipher_count, extension_count, signature_count; /* how many there are, without GREASE */
};

static void read_values(struct cursor list, u16 *values, u32 most, u32 *count)
{
    for (; list.at + 2 <= list.end; list.at += 2) {
        u32 value = be16(list.octets + list.at);
        if (is_grease(value))
            continue;
        if (*count < most)
            values[*count] = value;
        ++*count;
    }
}

static void read_extension(u32 type, struct cursor body, struct hello *out, struct lists *lists, u32 *version)
{
    struct cursor list;

    if (type == SERVER_NAME)
        read_name(body, out);
    else if (type == ALPN)
        read_alpn(body, out);
    else if (type == SUPPORTED_VERSIONS)
        *version = highest_version(body, *version);
    else if (type == SIGNATURE_ALGORITHMS && vector(&body, 2, &list))
        read_values(list, lists->signatures, MOST_SIGNATURES, &lists->signature_count);
    else if (type == ESNI && !out->ech)
        out->ech = HAS_ESNI;
    else if (type >= ECH_FIRST_DRAFT && type <= ECH) {
        out->ech = OUTER_ECH;
        if (type == ECH && body.end - body.at > 5 && !body.octets[body.at])
            out->ech_config = body.octets[body.at + 5];
    }
}

/* The parts of JA4, of a hello that was read to its end. */
static void write_ja4(struct hello *out, struct lists *lists, u32 version)
{
    u32 kept = 0;

    memcpy(out->ja4, version_text(version), 2);
    out->ja4[2] = out->has_name ? 'd' : 'i';
    two_digits(lists->cipher_count, out->ja4 + 3);
    two_digits(lists->extension_count, out->ja4 + 5);
    qsort(lists->ciphers, lists->cipher_count, sizeof(u16), compare);
    out->ciphers_bytes = listed(lists->ciphers, lists->cipher_count, out->ciphers, 0);
    for (u32 i = 0; i < lists->extension_count; i++)
        if (lists->extensions[i] != SERVER_NAME && lists->extensions[i] != ALPN)
            lists->extensions[kept++] = lists->extensions[i];
    qsort(lists->extensions, kept, sizeof(u16), compare);
    u32 used = listed(lists->extensions, kept, out->extensions, 0);
    if (lists->signature_count) {
        out->extensions[used++] = '_';
        used = listed(lists->signatures, lists->signature_count, out->extensions, used);
    }
    out->extensions_bytes = used;
}

/* A handshake message from its type on. */
static int read_hello(const u8 *octets, u32 bytes, struct hello *out)
{
    struct lists lists = {.cipher_count = 0};
    struct cursor list;

    if (!bytes)
        return SHORT;
    if (octets[0] != CLIENT_HELLO)
        return BROKEN;
    if (bytes < MESSAGE_BYTES)
        return SHORT;
    u32 end = MESSAGE_BYTES + ((u32)octets[1] << 16 | be16(octets + 2));
    if (end > MOST_HELLO || end < MESSAGE_BYTES + VERSION_AND_RANDOM + 4)
        return BROKEN;
    int whole = bytes >= end, otherwise = whole ? BROKEN : SHORT;
    struct cursor hello = {octets, MESSAGE_BYTES + VERSION_AND_RANDOM, whole ? end : bytes};
    if (bytes < MESSAGE_BYTES + VERSION_AND_RANDOM)
        return SHORT;
    u32 version = be16(octets + MESSAGE_BYTES);
    if (version >> 8 != 3 && version != 2)
        return BROKEN;
    if (!vector(&hello, 1, &list)) /* session */
        return otherwise;
    if (list.end - list.at > 32)
        return BROKEN;
    if (!vector(&hello, 2, &list))
        return otherwise;
    if ((list.end - list.at) % 2)
        return BROKEN;
    read_values(list, lists.ciphers, MOST_CIPHERS, &lists.cipher_count);
    if (!vector(&hello, 1, &list)) /* compression */
        return otherwise;
    memcpy(out->ja4 + 7, "00", 2);
    if (hello.at < hello.end || !whole) {
        struct cursor extensions, body;
        int all = vector(&hello, 2, &extensions);
        while (extensions.at < extensions.end) {
            if (extensions.end - extensions.at < 2)
                return otherwise;
            u32 type = be16(extensions.octets + extensions.at);
            extensions.at += 2;
            if (!vector(&extensions, 2, &body))
                return otherwise;
            if (!is_grease(type)) {
                if (lists.extension_count < MOST_EXTENSIONS)
                    lists.extensions[lists.extension_count] = type;
                lists.extension_count++;
            }
            read_extension(type, body, out, &lists, &version);
        }
        if (!all)
            return otherwise;
    }
    if (!whole)
        return SHORT;
    if (lists.cipher_count <= MOST_CIPHERS && lists.extension_count <= MOST_EXTENSIONS
        && lists.signature_count <= MOST_SIGNATURES)
        write_ja4(out, &lists, version);
    return READ;
}

/* `octets`: with `records`, of a TCP stream from a record's header on; else of a handshake message. */
void ayaflow_hello_read(const u8 *octets, u32 bytes, int records, struct hello *out)
{
    u8 joined[MOST_HELLO];
    u32 used = 0, at = 0;
    int ended = 0; /* by what is no handshake record */

    memset(out, 0, offsetof(struct hello, name));
    out->ech_config = -1;
    while (records && at < bytes && used < sizeof(joined) && !ended) {
        u32 there = bytes - at, size = there < RECORD_BYTES ? 1 : be16(octets + at + 3);
        /* an empty record, too: of a handshake there is none */
        ended = octets[at] != RECORD_HANDSHAKE || (there > 1 && octets[at + 1] != 3) || !size;
        if (ended || there < RECORD_BYTES)
            break;
        u32 taken = size < there - RECORD_BYTES ? size : there - RECORD_BYTES;
        taken = taken < sizeof(joined) - used ? taken : sizeof(joined) - used;
        memcpy(joined + used, octets + at + RECORD_BYTES, taken);
        used += taken;
        at += RECORD_BYTES + size;
    }
    out->outcome = read_hello(records ? joined : octets, records ? used : bytes, out);
    if (ended && out->outcome == SHORT)
        out->outcome = BROKEN;
}
