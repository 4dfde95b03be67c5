/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages (RFC 1035, 6762, 9460) to rows and texts, a batch at a time; producer/names/parsers/dns.py calls it by ctypes. What is
 * read here was sent by anybody: every read is checked against the end of the copy, a name has at most 255 octets and 16
 * jumps, each to before where it came from, and a message at most 64 questions and 64 records. */
#include "dns_text.h"

enum framing {
    DATAGRAM,
    STREAM,
    MULTICAST
}; /* UDP; behind a length, as in TCP; mDNS, whose other sections count too */
enum { READ, SHORT, BROKEN }; /* whole; the copy ends too early; cannot be DNS */
enum { A = 1, NS = 2, CNAME = 5, PTR = 12, MX = 15, AAAA = 28, SRV = 33, SVCB = 64, HTTPS = 65 };
enum { MOST_QUESTIONS = 64, MOST_RECORDS = 64, MOST_MESSAGES = 64, MOST_HINTS = 8 };
enum { RECORD_BYTES = 10 };
/* What one message may add: with less room than this, the next one waits for the next call. */
enum { MOST_ADDRESSES = MOST_RECORDS * MOST_HINTS, TEXT_NAMES = MOST_QUESTIONS * TEXT_NAME };
enum { TEXT_ANSWERS = MOST_RECORDS * (TEXT_NAME + 1) + MOST_ADDRESSES * 48 };

struct row { /* a question, or a response without one */
    u64 name_hash;
    i32 copy, name, answers; /* number of the copy; numbers of texts, -1: none */
    u32 ttl;                 /* seconds: the lowest of the answers with addresses, or of all; 0 without answers */
    i32 address, addresses;  /* the first of its addresses, and how many */
    i32 ech;                 /* where in the copy an ECHConfigList stands, -1: nowhere */
    u16 ech_bytes;
    u16 id, type;
    u8 rcode, is_response, outcome, unused[3];
};

struct output {
    struct row *rows;
    u8 *addresses; /* 16 octets each */
    u8 *outcomes;  /* a copy's */
    i64 rows_room, addresses_room;
    i64 row_count, address_count;
    struct texts names, answers;
};

struct answers { /* of one message, as they are read */
    u8 *text;    /* what they say, a line each */
    u32 text_bytes, ttl, address_ttl;
    i32 addresses, ech;
    u16 ech_bytes;
};

static void add_address(struct output *out, struct answers *answers, const u8 *address, int is_ipv4)
{
    u8 *to = out->addresses + 16 * (out->address_count + answers->addresses++);

    if (answers->text_bytes)
        answers->text[answers->text_bytes++] = '\n';
    if (is_ipv4) {
        memcpy(to, MAPPED, sizeof(MAPPED));
        memcpy(to + 12, address, 4);
        answers->text_bytes += ipv4_text(address, answers->text + answers->text_bytes);
    } else {
        memcpy(to, address, 16);
        answers->text_bytes += ipv6_text(address, answers->text + answers->text_bytes);
    }
}

static void add_name(const struct message *message, u32 at, u32 end, struct answers *answers)
{
    u32 length = 0, line = answers->text_bytes ? 1 : 0;
    i64 behind = read_name(message, at, answers->text + answers->text_bytes + line, &length);

    if (behind <= 0 || behind > end)
        return;
    if (line)
        answers->text[answers->text_bytes] = '\n';
    answers->text_bytes += line + length;
}

/* What of a service binding (RFC 9460) leads to addresses: its target, hints and ECH configuration. */
static void add_service(struct output *out, const struct message *message, u32 at, u32 end, struct answers *answers)
{
    i64 behind = at + 2 <= end ? read_name(message, at + 2, 0, 0) : 0;

    if (behind <= 0 || behind > end)
        return;
    add_name(message, at + 2, end, answers);
    at = behind;
    for (int hints = 0; at + 4 <= end;) {
        u32 key = be16(message->octets + at), size = be16(message->octets + at + 2);
        at += 4;
        if (at + size > end)
            return;
        u32 step = key == 4 ? 4 : key == 6 ? 16 : 0;
        for (u32 hint = 0; step && hint + step <= size && hints < MOST_HINTS; hint += step, hints++)
            add_address(out, answers, message->octets + at + hint, step == 4);
        if (key == 5 && answers->ech < 0) {
            answers->ech = at;
            answers->ech_bytes = size;
        }
        at += size;
    }
}

static void add_record(struct output *out, const struct message *message, u32 type, u32 ttl, u32 at, u32 size,
                       struct answers *answers)
{
    i32 before = answers->addresses;

    if (type == A && size == 4)
        add_address(out, answers, message->octets + at, 1);
    else if (type == AAAA && size == 16)
        add_address(out, answers, message->octets + at, 0);
    else if (type == SVCB || type == HTTPS)
        add_service(out, message, at, at + size, answers);
    else if (type == CNAME || type == NS || type == PTR)
        add_name(message, at, at + size, answers);
    else if ((type == MX && size > 2) || (type == SRV && size > 6))
        add_name(message, at + (type == MX ? 2 : 6), at + size, answers);
    if (ttl < answers->ttl)
        answers->ttl = ttl;
    if (answers->addresses > before && ttl < answers->address_ttl)
        answers->address_ttl = ttl;
}

/* Records from `at` on. The owner and type of the first with an address, else of the first, go to `row`, if it is given. */
static int read_records(struct output *out, const struct message *message, u32 at, u32 count, struct answers *answers,
                        struct row *row)
{
    i32 named_by_address = 0;

    for (u32 i = 0; i < count && i < MOST_RECORDS; i++) {
        u32 owner = at;
        i64 behind = read_name(message, at, 0, 0);
        if (behind <= 0)
            return behind ? BROKEN : SHORT;
        at = behind;
        if (at + RECORD_BYTES > message->bytes)
            return SHORT;
        u32 type = be16(message->octets + at), size = be16(message->octets + at + 8);
        u32 ttl = be32(message->octets + at + 4);
        at += RECORD_BYTES;
        if (at + size > message->bytes)
            return SHORT;
        i32 before = answers->addresses;
        add_record(out, message, type, ttl > INT32_MAX ? 0 : ttl, at, size, answers);
        if (row && !named_by_address && (row->name < 0 || answers->addresses > before)) {
            u32 length = 0;
            if (read_name(message, owner, text_place(&out->names), &length) <= 0)
                return BROKEN;
            row->name = interned(&out->names, length);
            row->name_hash = out->names.hash[row->name];
            row->type = type;
            named_by_address = answers->addresses > before;
        }
        at += size;
    }
    return READ;
}

/* One message: a row a question, or one for a response without any. Returns how far it could be read. */
static int read_message(struct output *out, const struct message *message, i32 copy, enum framing framing)
{
    const u8 *octets = message->octets;

    if (message->bytes < HEADER_BYTES)
        return SHORT;
    u32 flags = be16(octets + 2), questions = be16(octets + 4), records = be16(octets + 6);
    u32 others = be16(octets + 8) + be16(octets + 10), opcode = flags >> 11 & 15, is_response = flags >> 15;
    if (opcode > 6 || questions > MOST_QUESTIONS || (!questions && !is_response))
        return BROKEN;

    struct row *rows = out->rows + out->row_count, blank = {.copy = copy, .name = -1, .answers = -1, .ech = -1};
    blank.id = be16(octets);
    blank.rcode = flags & 15;
    blank.is_response = is_response;
    blank.address = out->address_count;
    u32 at = HEADER_BYTES, count = 0;
    int outcome = READ;
    for (u32 i = 0; i < questions && outcome == READ; i++) {
        u32 length = 0;
        i64 behind = read_name(message, at, text_place(&out->names), &length);
        if (behind <= 0 || behind + 4 > message->bytes) {
            outcome = behind < 0 ? BROKEN : SHORT;
            break;
        }
        at = behind + 4;
        struct row *row = rows + count++;
        *row = blank;
        row->name = interned(&out->names, length);
        row->name_hash = out->names.hash[row->name];
        row->type = be16(octets + behind);
    }
    struct answers answers = {
        .text = text_place(&out->answers), .ttl = UINT32_MAX, .address_ttl = UINT32_MAX, .ech = -1};
    if (is_response && outcome == READ && (records || framing == MULTICAST)) {
        if (!questions)
            rows[0] = blank;
        if (framing == MULTICAST)
            records += others;
        outcome = read_records(out, message, at, records, &answers, questions ? 0 : rows);
        if (!questions && rows[0].name >= 0)
            count = 1;
    }
    if (!count)
        return outcome;
    if (answers.ttl != UINT32_MAX)
        rows[0].ttl = answers.address_ttl != UINT32_MAX ? answers.address_ttl : answers.ttl;
    rows[0].answers = answers.text_bytes ? interned(&out->answers, answers.text_bytes) : -1;
    rows[0].addresses = answers.addresses;
    rows[0].ech = answers.ech;
    rows[0].ech_bytes = answers.ech_bytes;
    out->row_count += count;
    out->address_count += answers.addresses;
    return outcome;
}

static int has_room(const struct output *out)
{
    const struct texts *names = &out->names, *answers = &out->answers;

    return out->rows_room - out->row_count >= MOST_QUESTIONS
           && out->addresses_room - out->address_count >= MOST_ADDRESSES && names->most - names->count >= MOST_QUESTIONS
           && answers->most > answers->count
           && names->room - (names->count ? names->end[names->count - 1] : 0) >= TEXT_NAMES + TEXT_NAME
           && answers->room - (answers->count ? answers->end[answers->count - 1] : 0) >= TEXT_ANSWERS;
}

/* Messages of one TCP segment, each behind its length. Returns -1 when there was no room for all. */
static int read_stream(struct output *out, const u8 *octets, u32 bytes, i32 copy)
{
    int outcome = SHORT;

    for (u32 at = 0, messages = 0; at + 2 < bytes; messages++) {
        u32 size = be16(octets + at), left = bytes - at - 2;
        if (!has_room(out))
            return -1;
        struct message message = {octets + at + 2, size < left ? size : left};
        i64 row = out->row_count;
        int next = read_message(out, &message, copy, STREAM);
        if (next == SHORT && size <= left)
            next = BROKEN; /* it is all there, and says more than it has */
        for (; row < out->row_count; row++) {
            out->rows[row].outcome = next;
            if (out->rows[row].ech >= 0)
                out->rows[row].ech += at + 2;
        }
        if (!messages || next == BROKEN)
            outcome = next;
        at += 2 + size;
    }
    return outcome;
}

static int read_datagram(struct output *out, const u8 *octets, u32 bytes, i32 copy, enum framing framing, int is_cut)
{
    struct message message = {octets, bytes};
    i64 row = out->row_count;
    int outcome = read_message(out, &message, copy, framing);

    if (outcome == SHORT && !is_cut)
        outcome = BROKEN;
    for (; row < out->row_count; row++)
        out->rows[row].outcome = outcome;
    return outcome;
}

/* Copies `first` to `count` - 1, of lengths[i] octets from offsets[i] on; cut[i]: more was on the wire. Returns the number
 * of the first that found no room: the next call goes on there. */
i64 ayaflow_dns_read(const u8 *octets, const i64 *offsets, const u16 *lengths, const u8 *framings, const u8 *cut,
                     i64 first, i64 count, struct output *out)
{
    for (i64 i = first; i < count; i++) {
        const u8 *copy = octets + offsets[i];
        i64 rows = out->row_count, addresses = out->address_count;
        if (!has_room(out))
            return i;
        int outcome = framings[i] == STREAM ? read_stream(out, copy, lengths[i], i)
                                            : read_datagram(out, copy, lengths[i], i, framings[i], cut[i]);
        if (outcome < 0 && rows) { /* a segment of many messages: it comes again, to an empty place */
            out->row_count = rows;
            out->address_count = addresses;
            return i;
        }
        out->outcomes[i] = outcome < 0 ? BROKEN : outcome;
    }
    return count;
}
