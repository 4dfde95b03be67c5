/* SPDX-License-Identifier: Apache-2.0 */
/* Columns to the Avro bytes of their rows: what schemas/avro/plain.py does with numpy, an octet at a time, in one pass.
 * Nothing of Python is in here: schemas/avro/native.py calls it by ctypes, and describes the columns. */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

enum kind { SAME, LONG, BOOLEAN, CHOICE, ADDRESS, OCTETS };

struct column {
    const uint8_t *data;    /* of the first row; SAME: the value itself */
    int64_t stride;         /* octets from a row to the next */
    const uint8_t *present; /* ADDRESS: an octet a row, 0: an empty string; null: all are there */
    int64_t present_stride;
    const uint8_t *texts;   /* CHOICE: texts[number] is written */
    const int32_t *lengths; /* CHOICE: how many of them count */
    int32_t kind;
    int32_t size;      /* octets: of the value (SAME, OCTETS), of a number (LONG, CHOICE) */
    int32_t is_signed; /* the number */
    int32_t width;     /* CHOICE: octets from a text to the next */
};

#define SHORT 16 /* octets from a text to the next, where none is longer */

static struct {
    uint8_t text[4], length;
} decimal[256];

__attribute__((constructor)) static void write_decimals(void)
{
    for (int i = 0; i < 256; i++) {
        uint8_t *at = decimal[i].text;
        if (i > 99)
            *at++ = '0' + i / 100;
        if (i > 9)
            *at++ = '0' + i / 10 % 10;
        *at++ = '0' + i % 10;
        decimal[i].length = at - decimal[i].text;
    }
}

static int64_t number(const struct column *column, const uint8_t *at)
{
    switch (column->size) {
    case 1:
        return column->is_signed ? *(const int8_t *)at : *at;
    case 2: {
        uint16_t value;
        memcpy(&value, at, 2);
        return column->is_signed ? (int16_t)value : value;
    }
    case 4: {
        uint32_t value;
        memcpy(&value, at, 4);
        return column->is_signed ? (int32_t)value : (int64_t)value;
    }
    default: {
        int64_t value;
        memcpy(&value, at, 8);
        return value;
    }
    }
}

static uint8_t *put_long(uint8_t *out, int64_t value)
{
    uint64_t rest = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    while (rest > 0x7f) {
        *out++ = rest | 0x80;
        rest >>= 7;
    }
    *out++ = rest;
    return out;
}

#define PUT_EACH(type)                                               \
    for (int64_t row = 0; row < rows; row++, at += column->stride) { \
        type value;                                                  \
        memcpy(&value, at, sizeof(value));                           \
        out = put_long(out, (int64_t)value);                         \
    }

static uint8_t *put_longs(uint8_t *out, const struct column *column, int64_t rows)
{
    const uint8_t *at = column->data;

    switch (column->size * 2 + column->is_signed) {
    case 2:
        PUT_EACH(uint8_t)
        break;
    case 3:
        PUT_EACH(int8_t)
        break;
    case 4:
        PUT_EACH(uint16_t)
        break;
    case 5:
        PUT_EACH(int16_t)
        break;
    case 8:
        PUT_EACH(uint32_t)
        break;
    case 9:
        PUT_EACH(int32_t)
        break;
    default:
        PUT_EACH(int64_t)
    }
    return out;
}

static uint8_t *put_address(uint8_t *out, const uint8_t *address)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    uint8_t *text = out + 1; /* behind the length, which is one octet: no text is longer than 63 */

    if (memcmp(address, mapped, sizeof(mapped))) {
        inet_ntop(AF_INET6, address, (char *)text, INET6_ADDRSTRLEN);
        text += strlen((char *)text);
    } else {
        for (int i = 12; i < 16; i++) {
            memcpy(text, decimal[address[i]].text, 4);
            text += decimal[address[i]].length;
            *text++ = '.';
        }
        text--;
    }
    *out = (text - out - 1) << 1;
    return text;
}

static uint8_t *put_value(uint8_t *out, const struct column *column, int64_t row)
{
    const uint8_t *at = column->data + row * column->stride;

    switch (column->kind) {
    case SAME:
        memcpy(out, column->data, column->size);
        return out + column->size;
    case LONG:
        return put_long(out, number(column, at));
    case BOOLEAN:
        *out = *at != 0;
        return out + 1;
    case CHOICE: {
        int64_t chosen = number(column, at);
        if (column->width == SHORT)
            memcpy(out, column->texts + chosen * SHORT, SHORT); /* `out` has room for that */
        else
            memcpy(out, column->texts + chosen * column->width, column->lengths[chosen]);
        return out + column->lengths[chosen];
    }
    case ADDRESS:
        if (column->present && !column->present[row * column->present_stride]) {
            *out = 0;
            return out + 1;
        }
        return put_address(out, at);
    default: /* OCTETS */
        memcpy(out, at, column->size);
        return out + column->size;
    }
}

/* The same value again and again: what is there already is copied behind itself. */
static uint8_t *put_same(uint8_t *out, const struct column *column, int64_t rows)
{
    int64_t whole = column->size * rows;

    memcpy(out, column->data, column->size);
    for (int64_t done = column->size; done < whole;) {
        int64_t more = done < whole - done ? done : whole - done;
        memcpy(out + done, out, more);
        done += more;
    }
    return out + whole;
}

/* A column by itself: most of what a batch is made of. */
static uint8_t *put_column(uint8_t *out, const struct column *column, int64_t rows)
{
    if (column->kind == LONG)
        return put_longs(out, column, rows);
    if (column->kind == SAME)
        return put_same(out, column, rows);
    if (column->kind == ADDRESS && !column->present) {
        for (int64_t row = 0; row < rows; row++)
            out = put_address(out, column->data + row * column->stride);
        return out;
    }
    for (int64_t row = 0; row < rows; row++)
        out = put_value(out, column, row);
    return out;
}

/* Writes the rows; `out` has room for the longest that they can be, and 16 octets. Returns how many octets they are.
 * `ends`: where each row ends; null: nobody wants to know. */
int64_t ayaflow_avro_rows(const struct column *columns, int64_t count, int64_t rows, uint8_t *out, int64_t *ends)
{
    const uint8_t *begin = out;

    for (int64_t row = 0; row < rows; row++) {
        for (const struct column *column = columns; column < columns + count; column++)
            out = put_value(out, column, row);
        if (ends)
            ends[row] = out - begin;
    }
    return out - begin;
}

/* Writes each column as an array of rows[i] items in one block. */
int64_t ayaflow_avro_arrays(const struct column *columns, int64_t count, const int64_t *rows, uint8_t *out)
{
    const uint8_t *begin = out;

    for (int64_t i = 0; i < count; i++) {
        if (rows[i]) {
            out = put_long(out, rows[i]);
            out = put_column(out, &columns[i], rows[i]);
        }
        *out++ = 0;
    }
    return out - begin;
}
