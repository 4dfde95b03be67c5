/* SPDX-License-Identifier: Apache-2.0 */
/* Avro records of plain values and arrays of plain values to columns. Nothing of Python is in here:
 * schemas/avro/reader.py calls it by ctypes, and describes the fields.
 * One record with arrays is gone over twice: first all lengths are looked at and counted, then the values are written
 * to where there is room for so many. Of many records of plain values, numbers are written at once, since there are as
 * many as records; of texts it is noted where they begin and end, and they are copied when their octets are counted. */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

enum kind { LONG, BOOLEAN, STRING, LONGS, BOOLEANS, STRINGS, ADDRESSES, CHOICES };

struct field {
    int64_t kind;
    int64_t size;            /* LONGS; LONG of many records: octets of a number in `out` */
    int64_t lowest, highest; /* LONG, LONGS */
    const uint8_t *texts;    /* CHOICES: one after the other, `width` octets each */
    const int32_t *lengths;  /* CHOICES: how many of them count */
    int64_t choices, width;
    int64_t otherwise; /* CHOICES: the place of any other text; ADDRESSES: an empty one is ::; -1: none may be */
    uint8_t *out;      /* null: nobody wants it; STRING of many records: int64_t, where each text begins */
    int32_t *ends;     /* STRINGS: where each text ends in `out`; STRING of many records: likewise, with a 0 before */
    int64_t place;     /* of the field in the record */
    int64_t count;     /* of its items */
    int64_t octets;    /* of its texts */
    int64_t value;     /* LONG, BOOLEAN; STRING: where its text begins */
};

struct input {
    const uint8_t *at, *end;
};

static int get_long(struct input *in, int64_t *value)
{
    uint64_t found = 0;

    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t octet = *in->at++;
        found |= (uint64_t)(octet & 0x7f) << shift;
        if (octet < 0x80) {
            *value = (int64_t)(found >> 1 ^ -(found & 1));
            return shift == 63 && octet > 1 ? -1 : 0;
        }
    }
    return -1;
}

/* How many items the next block of an array has; 0: there is none. Each item is an octet at least. */
static int get_block(struct input *in, int64_t *count)
{
    int64_t octets;

    if (get_long(in, count))
        return -1;
    if (*count < 0) {
        if (*count == INT64_MIN || get_long(in, &octets))
            return -1;
        *count = -*count;
    }
    return *count > in->end - in->at ? -1 : 0;
}

static int skip_longs(struct input *in, int64_t count)
{
    while (count >= 8 && in->end - in->at >= 8) {
        uint64_t octets;
        memcpy(&octets, in->at, 8);
        count -= __builtin_popcountll(~octets & 0x8080808080808080);
        in->at += 8;
    }
    for (; count > 0; in->at++) {
        if (in->at == in->end)
            return -1;
        count -= *in->at < 0x80;
    }
    return 0;
}

static int get_text(struct input *in, int64_t *length)
{
    return get_long(in, length) || *length < 0 || *length > in->end - in->at ? -1 : 0;
}

static int scan_array(struct input *in, struct field *field)
{
    int64_t count, length;

    for (;;) {
        if (get_block(in, &count))
            return -1;
        if (!count)
            return 0;
        field->count += count;
        if (field->kind == LONGS) {
            if (skip_longs(in, count))
                return -1;
        } else if (field->kind == BOOLEANS) {
            in->at += count;
        } else {
            while (count--) {
                if (get_text(in, &length))
                    return -1;
                in->at += length;
                field->octets += length;
            }
        }
    }
}

static int scan_field(struct input *in, struct field *field)
{
    switch (field->kind) {
    case LONG:
        if (get_long(in, &field->value))
            return -1;
        return field->value < field->lowest || field->value > field->highest ? -1 : 0;
    case BOOLEAN:
        if (in->at == in->end || *in->at > 1)
            return -1;
        field->value = *in->at++;
        return 0;
    case STRING:
        if (get_text(in, &field->octets))
            return -1;
        field->value = in->at - (in->end - field->count); /* count: of the record's octets, see below */
        field->count = 0;
        in->at += field->octets;
        return 0;
    default:
        return scan_array(in, field);
    }
}

/* Counts what the fields hold. Returns 0, or the number of the field that is not one, from 1; behind all: octets are left. */
int64_t ayaflow_avro_scan(const uint8_t *record, int64_t length, struct field *fields, int64_t count)
{
    struct input in = {record, record + length};

    for (int64_t i = 0; i < count; i++) {
        fields[i].place = in.at - record;
        fields[i].count = fields[i].kind == STRING ? length : 0;
        fields[i].octets = 0;
        if (scan_field(&in, &fields[i]))
            return i + 1;
    }
    return in.at == in.end ? 0 : count + 1;
}

/* Nothing ends in the middle of a number here: the scan has seen the end of each. */
#define READ_EACH(type)                                      \
    for (type *out = (type *)field->out + done; count--;) {  \
        int64_t value;                                       \
        if (*in->at < 0x80)                                  \
            value = *in->at >> 1 ^ -(*in->at & 1), in->at++; \
        else if (get_long(in, &value))                       \
            return -1;                                       \
        if (value < field->lowest || value > field->highest) \
            return -1;                                       \
        *out++ = (type)value;                                \
    }

static int read_longs(struct input *in, const struct field *field, int64_t done, int64_t count)
{
    switch (field->size) {
    case 1:
        READ_EACH(uint8_t)
        break;
    case 2:
        READ_EACH(uint16_t)
        break;
    case 4:
        READ_EACH(uint32_t)
        break;
    default:
        READ_EACH(uint64_t)
    }
    return 0;
}

static int read_ipv4(const uint8_t *text, int64_t length, uint8_t *out)
{
    const uint8_t *end = text + length;

    for (int i = 0; i < 4; i++) {
        unsigned number = 0, digits = 0;
        for (; text < end && *text != '.'; text++, digits++) {
            if (*text < '0' || *text > '9' || digits == 3)
                return -1;
            number = number * 10 + *text - '0';
        }
        if (!digits || number > 255 || (i < 3) != (text < end))
            return -1;
        out[i] = number;
        text++;
    }
    return 0;
}

/* 16 octets, IPv4 as ::ffff:a.b.c.d. */
static int read_address(const uint8_t *text, int64_t length, uint8_t *out)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    char copy[INET6_ADDRSTRLEN];

    if (!memchr(text, ':', length)) {
        memcpy(out, mapped, sizeof(mapped));
        return read_ipv4(text, length, out + 12);
    }
    if (length >= (int64_t)sizeof(copy) || memchr(text, 0, length))
        return -1;
    memcpy(copy, text, length);
    copy[length] = 0;
    return inet_pton(AF_INET6, copy, out) == 1 ? 0 : -1;
}

static int64_t choice(const struct field *field, const uint8_t *text, int64_t length, int64_t last)
{
    for (int64_t i = -1; i < field->choices; i++) { /* most are as the one before */
        int64_t place = i < 0 ? last : i;
        if (field->lengths[place] == length && !memcmp(field->texts + place * field->width, text, length))
            return place;
    }
    return field->otherwise;
}

static int read_texts(struct input *in, const struct field *field, int64_t done, int64_t count, int64_t *octets)
{
    int64_t last = 0;

    for (; count--; done++) {
        int64_t length = 0;
        get_text(in, &length);
        if (field->kind == STRINGS) {
            memcpy(field->out + *octets, in->at, length);
            *octets += length;
            field->ends[done] = (int32_t)*octets;
        } else if (field->kind == ADDRESSES) {
            uint8_t *out = field->out + done * 16;
            if (!length && field->otherwise >= 0)
                memset(out, 0, 16);
            else if (read_address(in->at, length, out))
                return -1;
        } else {
            int64_t place = choice(field, in->at, length, last);
            if (place < 0)
                return -1;
            field->out[done] = (uint8_t)place;
            last = place;
        }
        in->at += length;
    }
    return 0;
}

static int read_array(struct input *in, const struct field *field)
{
    int64_t octets = 0, count = 0;

    for (int64_t done = 0; done < field->count; done += count) {
        get_block(in, &count);
        if (field->kind == LONGS) {
            if (read_longs(in, field, done, count))
                return -1;
        } else if (field->kind == BOOLEANS) {
            for (int64_t i = 0; i < count; i++)
                field->out[done + i] = *in->at++ != 0;
        } else if (read_texts(in, field, done, count, &octets)) {
            return -1;
        }
    }
    return 0;
}

/* Writes the arrays that have an `out`, after a scan. Returns 0, or the number of the field that has a wrong value. */
int64_t ayaflow_avro_read(const uint8_t *record, int64_t length, const struct field *fields, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        struct input in = {record + fields[i].place, record + length};
        if (fields[i].out && read_array(&in, &fields[i]))
            return i + 1;
    }
    return 0;
}

static int is_utf8(const uint8_t *at, int64_t length)
{
    const uint8_t *end = at + length;

    while (at < end) {
        uint64_t octets = 0x80;
        if (end - at >= 8)
            memcpy(&octets, at, 8);
        if (!(octets & 0x8080808080808080)) {
            at += 8;
        } else if (*at < 0x80) {
            at++;
        } else {
            uint8_t first = *at;
            int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
            /* the second octet: no longer form than needed, no surrogates, nothing above U+10FFFF */
            uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
            uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
            if (first < 0xc2 || first > 0xf4 || end - at <= more || at[1] < low || at[1] > high)
                return 0;
            for (int i = 2; i <= more; i++)
                if ((at[i] & 0xc0) != 0x80)
                    return 0;
            at += more + 1;
        }
    }
    return 1;
}

/* A field of record number `row` of those that are kept, to the columns. */
static int row_field(struct input *in, const uint8_t *octets, struct field *field, int64_t row)
{
    int64_t value;

    switch (field->kind) {
    case LONG:
        if (get_long(in, &value) || value < field->lowest || value > field->highest)
            return -1;
        if (field->out && field->size == 4)
            ((int32_t *)field->out)[row] = (int32_t)value;
        else if (field->out)
            ((int64_t *)field->out)[row] = value;
        return 0;
    case BOOLEAN:
        if (in->at == in->end || *in->at > 1)
            return -1;
        if (field->out)
            field->out[row] = *in->at;
        in->at++;
        return 0;
    case STRING:
        if (get_text(in, &value))
            return -1;
        if (field->out) {
            if (!is_utf8(in->at, value))
                return -1;
            ((int64_t *)field->out)[row] = in->at - octets;
            field->ends[row + 1] = field->ends[row] + (int32_t)value;
        }
        in->at += value;
        return 0;
    default:
        return scan_array(in, field);
    }
}

/* `records` records, one ending at each of `ends` (ends[0]: where the first begins), the first `skip` octets of each left
 * out. All octets together must be fewer than 2^31. A record that is not one is left out: wrong[] says of each the number
 * of the field as ayaflow_avro_scan does. Returns how many were kept. */
int64_t ayaflow_avro_read_rows(const uint8_t *octets, const int64_t *ends, int64_t records, int64_t skip,
                               struct field *fields, int64_t count, int32_t *wrong)
{
    int64_t row = 0;

    for (int64_t record = 0; record < records; record++) {
        struct input in = {octets + ends[record] + skip, octets + ends[record + 1]};
        int64_t i = 0;
        while (i < count && in.at <= in.end && !row_field(&in, octets, &fields[i], row))
            i++;
        wrong[record] = i < count || in.at != in.end ? (int32_t)i + 1 : 0;
        row += !wrong[record];
    }
    return row;
}

/* Texts of many records, one after the other. */
void ayaflow_avro_texts(const uint8_t *octets, const int64_t *begins, const int32_t *ends, int64_t count, uint8_t *out)
{
    for (int64_t i = 0; i < count; i++)
        memcpy(out + ends[i], octets + begins[i], ends[i + 1] - ends[i]);
}
