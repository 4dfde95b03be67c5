/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the ring to a column each property and the flows among them, in one pass: what producer/capture/columns.py does with
 * numpy in fifteen. Nothing of Python is in here: producer/capture/columns.py calls it by ctypes. */
#include <stdint.h>
#include <string.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;
#include "../../bpf/event.h"

struct record {
    u32 header, page_offset;
    struct packet_event packet;
};

struct columns {
    int64_t *ktime_ns, *bytes;
    int32_t *packets, *tcp_flags, *segment_bytes;
    u8 *ttl, *tos, *epoch;
    int32_t *flow;  /* number of the record's flow and epoch, in the order in which they come */
    int64_t *first; /* of each of these, its first record */
    u64 *keys;      /* and what makes it one */
    u32 *table;     /* flow + 1 by key; zeroed, of at least twice as many places as there are records */
    u64 mask;       /* places of the table - 1: a power of two less one */
};

#define EPOCH_MIX 0x9E3779B97F4A7C15ULL /* odd: two epochs of one flow never get the same key */

/* Returns the number of flows, or -1 when a record is not a submitted event of `event_bytes`. */
int64_t ayaflow_read_records(const u8 *records, int64_t stride, int64_t rows, u32 event_bytes,
                             const struct columns *out)
{
    int64_t flows = 0;

    for (int64_t row = 0; row < rows; row++) {
        struct record record;
        memcpy(&record, records + row * stride, sizeof(record));
        /* Ring.readable has seen that the kernel is done with it. Here the header says whether it is a packet at all; as
         * it is loaded anyway, that takes no time that can be measured. */
        if (record.header != event_bytes)
            return -1;
        const struct packet_event *packet = &record.packet;
        out->ktime_ns[row] = packet->ktime_ns;
        out->bytes[row] = packet->bytes;
        out->packets[row] = packet->packets;
        out->tcp_flags[row] = packet->tcp_flags;
        out->segment_bytes[row] = packet->segment_bytes;
        out->ttl[row] = packet->ttl;
        out->tos[row] = packet->tos;
        out->epoch[row] = packet->epoch;

        u64 key = packet->flow_hash + packet->epoch * EPOCH_MIX;
        u64 place = key & out->mask;
        while (out->table[place] && out->keys[out->table[place] - 1] != key)
            place = (place + 1) & out->mask;
        if (!out->table[place]) {
            out->keys[flows] = key;
            out->first[flows] = row;
            out->table[place] = ++flows;
        }
        out->flow[row] = out->table[place] - 1;
    }
    return flows;
}
