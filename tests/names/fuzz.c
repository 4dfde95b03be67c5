/* SPDX-License-Identifier: Apache-2.0 */
/* Changed messages to the C parsers, each in memory of its own size, so that a sanitizer sees a read behind its end; what
 * comes out is checked. tests/names/fuzz.py compiles it with -DFUZZ_DNS=1 or 0, and calls it:
 *
 *     fuzz SEEDS INPUTS RANDOM
 *
 * SEEDS: a file of valid inputs, each behind its length (4 octets of the machine's order). Prints the longest time that one
 * input took in microseconds; ends at the first thing that is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if FUZZ_DNS
#include "../../producer/names/parsers/dns.c"
#else
#include "../../producer/names/parsers/hello.c"
#endif

enum { MOST_BYTES = 8192, MOST_SEEDS = 4096, ROWS = 256, ROOM = 1 << 18 };

static struct {
    u8 *octets;
    u32 bytes;
} seeds[MOST_SEEDS];
static u32 seed_count;
static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static u32 below(u32 most)
{
    return most ? next() % most : 0;
}

static void fail(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    exit(1);
}

static void read_seeds(const char *path)
{
    FILE *file = fopen(path, "rb");
    u32 bytes;

    if (!file)
        fail("no seeds");
    while (seed_count < MOST_SEEDS && fread(&bytes, sizeof(bytes), 1, file) == 1) {
        u8 *octets = malloc(bytes + 1);
        if (!octets || bytes > MOST_BYTES || fread(octets, 1, bytes, file) != bytes)
            fail("seeds that cannot be");
        seeds[seed_count].octets = octets;
        seeds[seed_count++].bytes = bytes;
    }
    fclose(file);
    if (!seed_count)
        fail("no seeds");
}

/* One change of what is in `octets`; returns how many octets it has then. */
static u32 changed(u8 *octets, u32 bytes)
{
    static const u8 extremes[] = {0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff};
    u32 at = below(bytes), size = 1 + below(16), other = below(seed_count);

    switch (below(8)) {
    case 0:
        if (bytes)
            octets[at] ^= 1 << below(8);
        return bytes;
    case 1:
        if (bytes)
            octets[at] = extremes[below(sizeof(extremes))];
        return bytes;
    case 2:
        if (at + 2 <= bytes) {
            octets[at] = extremes[below(sizeof(extremes))];
            octets[at + 1] = extremes[below(sizeof(extremes))];
        }
        return bytes;
    case 3: /* cut */
        return at;
    case 4: /* without some in the middle */
        size = at + size > bytes ? bytes - at : size;
        memmove(octets + at, octets + at + size, bytes - at - size);
        return bytes - size;
    case 5: /* some twice */
        if (at + size > bytes || bytes + size > MOST_BYTES)
            return bytes;
        memmove(octets + at + size, octets + at, bytes - at);
        return bytes + size;
    case 6: /* goes on as another one */
        if (at < seeds[other].bytes) {
            memcpy(octets + at, seeds[other].octets + at, seeds[other].bytes - at);
            return seeds[other].bytes;
        }
        return bytes;
    default:
        for (u32 i = 0; i < size && at + i < bytes; i++)
            octets[at + i] = next();
        return bytes;
    }
}

static u32 made(u8 *octets)
{
    u32 seed = below(seed_count), bytes = seeds[seed].bytes, changes = below(6);

    if (!below(50)) { /* nothing but noise */
        bytes = below(600);
        for (u32 i = 0; i < bytes; i++)
            octets[i] = next();
        return bytes;
    }
    memcpy(octets, seeds[seed].octets, bytes);
    for (u32 i = 0; i < changes; i++)
        bytes = changed(octets, bytes);
    return bytes;
}

static void check_text(const u8 *octets, int64_t bytes, int64_t most, int lines)
{
    if (bytes < 0 || bytes > most)
        fail("a text of a length that cannot be");
    for (int64_t i = 0; i < bytes; i++)
        if (!(octets[i] > ' ' && octets[i] < 0x7f) && !(lines && octets[i] == '\n'))
            fail("a text with what cannot be shown");
}

#if FUZZ_DNS
static void check_texts(const struct texts *texts, i64 most, int lines)
{
    i64 begin = 0;

    for (i64 i = 0; i < texts->count; begin = texts->end[i++])
        check_text(texts->octets + begin, texts->end[i] - begin, most, lines);
    if (begin > texts->room || texts->count > texts->most)
        fail("more text than there is room for");
}

static void run(const u8 *octets, u32 bytes)
{
    static struct row rows[ROWS];
    static u8 addresses[1024 * 16], texts[2][ROOM];
    static i64 ends[2][ROWS];
    static u64 hashes[2][ROWS];
    static u32 tables[2][4 * ROWS];
    u8 outcome = 9, framing = below(3), is_cut = below(2);
    i64 offset = 0;
    u16 length = bytes;
    struct output out = {rows, addresses, &outcome, ROWS, 1024, 0, 0, {0}, {0}};
    struct texts *places[2] = {&out.names, &out.answers};

    memset(tables, 0, sizeof(tables));
    for (int i = 0; i < 2; i++)
        *places[i] = (struct texts){texts[i], ends[i], hashes[i], tables[i], 4 * ROWS - 1, 1, ROOM, 0, ROWS};
    if (ayaflow_dns_read(octets, &offset, &length, &framing, &is_cut, 0, 1, &out) != 1 || outcome > BROKEN)
        fail("a copy that was not read");
    if (out.row_count > ROWS || out.address_count > 1024)
        fail("more rows than there is room for");
    check_texts(&out.names, TEXT_NAME, 0);
    check_texts(&out.answers, TEXT_ANSWERS, 1);
    for (i64 i = 0; i < out.row_count; i++) {
        const struct row *row = rows + i;
        if (row->copy || row->name < 0 || row->name >= out.names.count || row->answers >= out.answers.count
            || row->address < 0 || row->addresses < 0 || row->address + row->addresses > out.address_count
            || (row->ech >= 0 && row->ech + row->ech_bytes > (i32)bytes) || row->ttl > INT32_MAX)
            fail("a row that cannot be");
    }
}
#else
static void run(const u8 *octets, u32 bytes)
{
    static struct hello hello;

    ayaflow_hello_read(octets, bytes, below(2), &hello);
    if (hello.outcome > BROKEN || hello.ech > HAS_ESNI || hello.ech_config < -1 || hello.ech_config > 255)
        fail("a hello that cannot be");
    check_text(hello.name, hello.name_bytes, sizeof(hello.name), 0);
    check_text(hello.alpn, hello.alpn_bytes, sizeof(hello.alpn), 0);
    check_text(hello.ciphers, hello.ciphers_bytes, sizeof(hello.ciphers), 0);
    check_text(hello.extensions, hello.extensions_bytes, sizeof(hello.extensions), 0);
}
#endif

int main(int count, char **arguments)
{
    static u8 octets[2 * MOST_BYTES];
    uint64_t longest_ns = 0;

    if (count != 4)
        fail("SEEDS INPUTS RANDOM");
    read_seeds(arguments[1]);
    state = strtoull(arguments[3], 0, 10) * 2 + 1;
    for (unsigned long long left = strtoull(arguments[2], 0, 10); left; left--) {
        u32 bytes = made(octets);
        u8 *exact = malloc(bytes + !bytes);
        struct timespec begin, end;
        memcpy(exact, octets, bytes);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        run(exact, bytes);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        free(exact);
        uint64_t took = (end.tv_sec - begin.tv_sec) * 1000000000ULL + end.tv_nsec - begin.tv_nsec;
        if (took > longest_ns)
            longest_ns = took;
    }
    printf("%llu\n", (unsigned long long)(longest_ns / 1000));
    return 0;
}
