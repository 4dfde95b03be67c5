/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Packets without an event of their own: added up by flow, in a hash table of the open epoch. User space reads and clears
 * the table of an epoch that is closed, when nothing writes to it any more (docs/decisions/0006). */
#ifndef AYAFLOW_COALESCE_H
#define AYAFLOW_COALESCE_H

#define NANOSECONDS 1000000000ULL
#define TCP_SYN 0x02
#define TCP_ACK 0x10

#define TRIES 4 /* at a word that other CPUs change too; each that fails means that one of them has changed it */

/* The packets of a super-packet have one length but for the last; where that cannot be, they are taken to be equal. */
static __always_inline union packet_sizes packet_sizes(const struct packet_event *event)
{
    union packet_sizes sizes = {.smallest = event->bytes, .largest = event->bytes};
    if (event->packets < 2)
        return sizes;
    u64 others = (u64)(event->packets - 1) * event->segment_bytes;
    u64 last = event->bytes - others;
    if (event->segment_bytes && others < event->bytes) {
        sizes.smallest = last < event->segment_bytes ? last : event->segment_bytes;
        sizes.largest = last > event->segment_bytes ? last : event->segment_bytes;
    } else {
        sizes.smallest = event->bytes / event->packets;
        sizes.largest = (event->bytes + event->packets - 1) / event->packets;
    }
    return sizes;
}

/* Sums and flags are exact whoever else writes. The last time may be older than it was by what a program takes. */
static __always_inline void add(struct coalesced *flow, const struct packet_event *event, union packet_sizes sizes,
                                union packet_marks marks)
{
    __sync_fetch_and_add(&flow->packets, event->packets);
    __sync_fetch_and_add(&flow->bytes, event->bytes);
    if (event->ktime_ns > flow->last_ktime_ns)
        flow->last_ktime_ns = event->ktime_ns;
#pragma unroll
    for (int i = 0; i < TRIES; i++) {
        union packet_sizes old = {.word = flow->sizes.word};
        union packet_sizes new = old;
        if (sizes.smallest < new.smallest)
            new.smallest = sizes.smallest;
        if (sizes.largest > new.largest)
            new.largest = sizes.largest;
        if (new.word == old.word || __sync_val_compare_and_swap(&flow->sizes.word, old.word, new.word) == old.word)
            break;
    }
    union packet_marks flags = {.tcp_flags = marks.tcp_flags & ~flow->marks.tcp_flags};
    if (flags.word)
        __sync_fetch_and_or(&flow->marks.word, flags.word);
#pragma unroll
    for (int i = 0; i < TRIES; i++) {
        union packet_marks old = {.word = flow->marks.word};
        union packet_marks new = old;
        if (marks.min_ttl < new.min_ttl)
            new.min_ttl = marks.min_ttl;
        if (marks.max_ttl > new.max_ttl)
            new.max_ttl = marks.max_ttl;
        if (new.word == old.word || __sync_val_compare_and_swap(&flow->marks.word, old.word, new.word) == old.word)
            break;
    }
}

/* Adds the packet to its flow's entry in `table`. `fresh` is room for a new entry, for which the stack is too small.
 * Returns whether there was room in the table. */
static __always_inline int coalesce(void *table, struct coalesced *fresh, const struct packet *p,
                                    const struct config *settings)
{
    const struct packet_event *event = &p->event;
    struct coalesced_key key = {
        .flow_hash = event->flow_hash,
        .second = (event->ktime_ns + settings->wall_offset_ns) / NANOSECONDS,
    };
    union packet_sizes sizes = packet_sizes(event);
    union packet_marks marks = {.tcp_flags = event->tcp_flags, .min_ttl = event->ttl, .max_ttl = event->ttl};

    if ((marks.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
        marks.tcp_flags |= BARE_SYN;
    struct coalesced *flow = bpf_map_lookup_elem(table, &key);
    if (!flow) {
        fresh->last_ktime_ns = event->ktime_ns;
        fresh->packets = event->packets;
        fresh->bytes = event->bytes;
        fresh->sizes = sizes;
        fresh->marks = marks;
        fill(&fresh->first, p);
        if (!bpf_map_update_elem(table, &key, fresh, BPF_NOEXIST))
            return 1;
        flow = bpf_map_lookup_elem(table, &key); /* another CPU was first; or the table is full */
        if (!flow)
            return 0;
    }
    add(flow, event, sizes, marks);
    return 1;
}

#endif
